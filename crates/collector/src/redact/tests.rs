use super::*;

/// Arguments are written with ␀ between them.
fn check(given: &str, expected: &str) {
    let raw = given.replace('␀', "\0");
    assert_eq!(command_line(raw.as_bytes()), expected, "from {given:?}");
}

#[test]
fn values_of_options_with_telling_names_go() {
    check("app␀--password=hunter2␀--port=80␀", "app --password=*** --port=80");
    check("app␀--password=two words", "app --password=***");
    check("app␀--db-password␀hunter2␀-v", "app --db-password *** -v");
    check("app␀-token␀abc", "app -token ***");
    check("app␀--token␀-abc-", "app --token ***");
    check("app␀--password␀--verbose", "app --password --verbose");
    check("app␀--api-key=abc␀--client-secret␀x", "app --api-key=*** --client-secret ***");
    check(
        "java␀-Djavax.net.ssl.keyStorePassword=x␀Main",
        "java -Djavax.net.ssl.keyStorePassword=*** Main",
    );
    check("app␀--clientSecret=x␀--authToken=y", "app --clientSecret=*** --authToken=***");
    check("redis-server␀--requirepass␀foobared", "redis-server --requirepass ***");
}

#[test]
fn environment_on_the_command_line_goes() {
    check("env␀AWS_SECRET_ACCESS_KEY=abc␀aws␀s3", "env AWS_SECRET_ACCESS_KEY=*** aws s3");
    check("env␀PGPASSWORD=x␀psql", "env PGPASSWORD=*** psql");
    check(
        "sh␀-c␀cd /srv && MYSQL_PWD='a b' mysqldump shop",
        "sh -c cd /srv && MYSQL_PWD='***' mysqldump shop",
    );
    check("env␀PWD=/home/me␀ls", "env PWD=/home/me ls");
}

#[test]
fn programs_with_secret_short_options_are_known() {
    check("mysql␀-uroot␀-psecret␀shop", "mysql -uroot -p*** shop");
    check("/usr/bin/mysqldump␀-p␀shop", "/usr/bin/mysqldump -p shop");
    check("sudo␀mariadb␀-psecret", "sudo mariadb -p***");
    check("sshpass␀-p␀secret␀ssh␀host", "sshpass -p *** ssh host");
    check("redis-cli␀-a␀secret␀ping", "redis-cli -a *** ping");
    check("curl␀-u␀me:secret␀https://x", "curl -u *** https://x");
    check("curl␀-ume:secret␀https://x", "curl -u*** https://x");
    check("sh␀-c␀mysql -psecret shop | grep -p x", "sh -c mysql -p*** shop | grep -p x");
    check("ssh␀-p␀2222␀host", "ssh -p 2222 host");
    check("docker␀run␀-p␀80:80␀nginx", "docker run -p 80:80 nginx");
    check("mkdir␀-p␀/srv/x", "mkdir -p /srv/x");
}

#[test]
fn passwords_in_urls_go() {
    check("app␀postgres://me:secret@db:5432/shop", "app postgres://me:***@db:5432/shop");
    check("app␀--url=redis://:secret@cache/0", "app --url=redis://:***@cache/0");
    check("app␀https://x/cb?token=abc&page=2", "app https://x/cb?token=***&page=2");
    check(
        "git␀clone␀https://ghp_16C7e42F292c6912E7710c838347Ae178B4a@github.com/a/b",
        "git clone https://***@github.com/a/b",
    );
    check("app␀amqp://u:p@ss@host/v", "app amqp://u:***@host/v");
    check("ssh␀ssh://git@example.org:22/x", "ssh ssh://git@example.org:22/x");
    check("app␀http://127.0.0.1:7070/a@b", "app http://127.0.0.1:7070/a@b");
}

#[test]
fn headers_and_structured_arguments_go() {
    check("curl␀-H␀Authorization: Bearer abc.def␀x", "curl -H Authorization: Bearer *** x");
    check("curl␀-H␀Authorization: abc␀x", "curl -H Authorization: *** x");
    check(
        "sh␀-c␀curl -H 'Authorization: Basic abc' x",
        "sh -c curl -H 'Authorization: Basic ***' x",
    );
    check("curl␀-H␀X-Api-Key: abc␀x", "curl -H X-Api-Key: *** x");
    check(
        "curl␀-d␀{\"user\":\"me\",\"password\":\"x y\"}",
        "curl -d {\"user\":\"me\",\"password\":\"***\"}",
    );
    check("openssl␀rsa␀-passin␀pass:hunter2", "openssl rsa -passin pass:***");
    check("psql␀host=db password=x user=me", "psql host=db password=*** user=me");
}

#[test]
fn tokens_go_wherever_they_stand() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    check(&format!("app␀{jwt}"), "app ***");
    check("app␀glpat-a1b2c3d4e5f6g7h8i9j0", "app ***");
    check("app␀--x=aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW", "app --x=***");
}

#[test]
fn what_is_no_secret_stays() {
    for line in [
        "/usr/lib/systemd/systemd --switched-root --system --deserialize=31",
        "containerd-shim -id 4f0c8d2e7b1a9c3f5e6d7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d",
        "git checkout 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "app --password-file=/etc/secret --token-file /run/token",
        "llm --max-tokens=100 --tokenizer=bpe",
        "java -Xmx4g -cp /opt/app/lib/* org.example.VeryLongNameOfAClassThatGoesOnAndOn",
        "app --sort-key=name --key=/etc/tls.pem",
        "postgres: me shop 10.0.0.1(5432) idle",
        "app --bypass --compass=n",
        "python3 -m http.server 8000",
        "it's one apostrophe",
        "",
    ] {
        check(&line.replace(' ', "␀"), line);
        check(line, line);
    }
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let line = command_line("é".repeat(2000).as_bytes());
    assert_eq!(line.len(), COMMAND_LINE_BYTES_MAX);
    let line = command_line(format!("a{}", "é".repeat(2000)).as_bytes());
    assert_eq!(line.len(), COMMAND_LINE_BYTES_MAX - 1);
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    assert_eq!(command_line(b"app\0\xff\xfe\0"), "app \u{fffd}\u{fffd}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_make_a_line_within_the_limit(raw in proptest::collection::vec(0u8..=255, 0..3000)) {
        proptest::prop_assert!(command_line(&raw).len() <= COMMAND_LINE_BYTES_MAX);
    }

    #[test]
    fn a_password_never_survives(secret in "[a-zA-Z0-9@/:+_!.]{6,20}", before in "[a-z ]{0,10}") {
        let raw = format!("{before}\0--password={secret}\0--token\0{secret}\0PGPASSWORD={secret}");
        let line = command_line(raw.as_bytes());
        proptest::prop_assert!(!line.contains(&secret), "{line}");
    }
}
