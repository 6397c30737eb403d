# syntax=docker/dockerfile:1
#
# One target per executable:
#   docker build --target muster --tag muster:local .
#   docker build --target muster-collector --tag muster-collector:local .

# rust-toolchain.toml names the same version.
FROM rust:1.95-trixie AS base
WORKDIR /src

# What decides about the dependencies, with nothing in place of our own sources: as long as these files stay
# the same, so does the next stage, and with it the long part of the build.
FROM base AS manifests
COPY . .
RUN find . -type f \
        ! -name Cargo.toml ! -name Cargo.lock ! -name build.rs \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*.rs' ! -path '*/benches/*.rs' \
        -delete \
    && find . -name '*.rs' -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' sh {} +

FROM base AS dependencies
COPY --from=manifests /src .
# Apart, as below: the collector's dependencies have fewer features when it is built alone.
RUN cargo build --release --locked --package collector \
    && cargo build --release --locked --package muster

FROM dependencies AS build
COPY . .
# What was built of the empty sources is older than these.
RUN find crates -name '*.rs' -exec touch {} + \
    && mkdir /out \
    && cargo build --release --locked --package collector --bin muster-collector \
    && cp target/release/muster-collector /out/ \
    && cargo build --release --locked --package muster --bin muster \
    && cp target/release/muster /out/

FROM debian:trixie-slim AS runtime
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm --recursive --force /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin muster

FROM runtime AS muster-collector
# A new volume takes over the owner of the directory that it is mounted on.
RUN install --directory --owner=muster --group=muster --mode=0700 /var/lib/muster-collector
COPY --from=build /out/muster-collector /usr/local/bin/
ENV MUSTER_STATE_DIR=/var/lib/muster-collector
USER muster
ENTRYPOINT ["muster-collector"]

FROM runtime AS muster
RUN install --directory --owner=muster --group=muster --mode=0700 /var/lib/muster
COPY --from=build /out/muster /usr/local/bin/
ENV MUSTER_DATA_DIR=/var/lib/muster
USER muster
EXPOSE 7070 7071 7072
ENTRYPOINT ["muster"]
CMD ["up", "--listen", "0.0.0.0:7070"]
