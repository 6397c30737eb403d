#!/bin/sh
# Installs an executable with its service on a machine with systemd. Safe to run again: it replaces the
# executable and the unit, restarts the service only when one of them is another than before, and never touches
# settings that are there.
set -eu

usage() {
    cat <<'END'
Usage: install.sh collector --aggregator URL [--token-file FILE] [OPTION]…
       install.sh server [--listen ADDRESS] [OPTION]…

  --aggregator URL   where the collector reports, such as http://hub.example:7070
  --token-file FILE  what it proves itself with, made by `muster token create NAME`
  --listen ADDRESS   where the server listens; 127.0.0.1:7070 when not given
  --binary FILE      the executable; that of target/release when not given
  --root DIR         install below DIR, without user, service or root: for images and packages
END
}

fail() {
    echo "error: $1" >&2
    [ -z "${2:-}" ] || echo "hint: $2" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
what=${1:-}
case "$what" in
    collector) name=muster-collector settings=collector.toml ;;
    server) name=muster settings=muster.toml ;;
    -h | --help | help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
shift

aggregator='' token_file='' listen='' binary="$here/../target/release/$name" root=''
while [ $# -gt 0 ]; do
    option=$1
    case "$option" in
        --aggregator | --token-file | --listen | --binary | --root)
            [ $# -ge 2 ] || fail "$option: a value is missing"
            case "$option" in
                --aggregator) aggregator=$2 ;;
                --token-file) token_file=$2 ;;
                --listen) listen=$2 ;;
                --binary) binary=$2 ;;
                --root) root=$2 ;;
            esac
            shift 2
            ;;
        *) usage >&2; fail "there is no option $option" ;;
    esac
done

etc="$root/etc/muster"
[ -f "$binary" ] || fail "there is no file $binary" \
    "build it with \`cargo build --release --locked\`, or name another with --binary"
if [ "$what" = collector ]; then
    [ -z "$listen" ] || fail "--listen: a collector listens on nothing"
    [ -n "$aggregator" ] || [ -f "$etc/$settings" ] || fail "--aggregator is missing" \
        "say where to report: --aggregator http://hub.example:7070"
    [ -z "$token_file" ] || [ -f "$token_file" ] || fail "--token-file: there is no file $token_file"
    case "$aggregator" in *[\"\\]*) fail "--aggregator: expected an address, found $aggregator" ;; esac
else
    [ -z "$aggregator$token_file" ] || fail "--aggregator and --token-file are for collectors"
fi
if [ -z "$root" ]; then
    [ "$(id -u)" = 0 ] || fail "only root can install a service" "begin with sudo, or give --root DIR"
    command -v systemctl >/dev/null || fail "there is no systemd here" \
        "start $binary in whatever way services are started here"
    if ! getent passwd "$name" >/dev/null; then
        useradd --system --user-group --home-dir "/var/lib/$name" --no-create-home \
            --shell /usr/sbin/nologin "$name"
    fi
fi

changed=no

# Puts a file in its place when it is another: first beside it, then by one rename, so that whoever starts it
# meanwhile finds the old one or the new one.
put() { # MODE FROM TO
    mkdir -p "$(dirname "$3")"
    if cmp -s "$2" "$3"; then
        chmod "$1" "$3"
        return
    fi
    rm -f "$3.new"
    # Nobody may read it before its mode is right.
    (umask 077 && cp "$2" "$3.new")
    chmod "$1" "$3.new"
    [ -n "$root" ] || [ -z "${4:-}" ] || chgrp "$4" "$3.new"
    mv -f "$3.new" "$3"
    changed=yes
    echo "installed $3"
}

put 755 "$binary" "$root/usr/bin/$name"
put 644 "$here/$name.service" "$root/etc/systemd/system/$name.service"

made=$(mktemp)
trap 'rm -f "$made"' EXIT
if [ -f "$etc/$settings" ]; then
    echo "kept $etc/$settings as it is"
    [ -z "$aggregator" ] || grep -qF "\"$aggregator\"" "$etc/$settings" ||
        echo "note: --aggregator $aggregator is not in it: edit it, then systemctl restart $name" >&2
elif [ "$what" = collector ]; then
    sed -e "s|^aggregators = .*|aggregators = [\"$(printf %s "$aggregator" | sed 's/[|&]/\\&/g')\"]|" \
        "$here/$settings" >"$made"
    [ -z "$token_file" ] || sed -i 's|^# token_file = |token_file = |' "$made"
    put 640 "$made" "$etc/$settings" "$name"
else
    put 640 "$here/../muster.example.toml" "$etc/$settings" "$name"
fi
if [ -n "$token_file" ]; then
    put 640 "$token_file" "$etc/collector.token" "$name"
    grep -q '^token_file = ' "$etc/$settings" ||
        echo "note: $etc/$settings names no token_file: add token_file = \"/etc/muster/collector.token\"" >&2
fi
if [ "$what" = server ] && [ ! -f "$etc/muster.env" ]; then
    sed -e "s|^MUSTER_LISTEN=.*|MUSTER_LISTEN=${listen:-127.0.0.1:7070}|" "$here/muster.env" >"$made"
    put 640 "$made" "$etc/muster.env" "$name"
fi

if [ -z "$root" ]; then
    systemctl daemon-reload
    systemctl enable --quiet "$name.service"
    if [ "$changed" = yes ] || ! systemctl is-active --quiet "$name.service"; then
        systemctl restart "$name.service"
    fi
    echo "$name is $(systemctl is-active "$name.service"); its log: journalctl -u $name"
fi
