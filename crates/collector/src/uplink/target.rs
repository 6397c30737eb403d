//! Which aggregators a collector delivers to.

use std::fmt;

use anyhow::{Context as _, bail};
use daemon::hint::WithHint as _;
use daemon::tls::Client;
use proto::Link;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Uri;

use super::Address;

/// Where to deliver.
#[derive(Clone, Debug)]
pub enum Target {
    /// Aggregators elsewhere. One is used at a time; the next when it fails.
    Urls { urls: Vec<Uri>, token: Option<Token>, tls: Option<Client> },
    /// The aggregator in this process.
    Link(Link),
}

impl Target {
    /// Checks the addresses. `http://` is meant where no scheme is written.
    ///
    /// # Errors
    /// When there is none, or one is not an address that can be used.
    pub fn urls(urls: &[String], token: Option<Token>) -> anyhow::Result<Self> {
        if urls.is_empty() {
            return Err(anyhow::anyhow!("no aggregator is given"))
                .hint("say where to deliver: --aggregator http://aggregator.example:7071");
        }
        let urls = urls.iter().map(|url| parse(url)).collect::<anyhow::Result<_>>()?;
        Ok(Self::Urls { urls, token, tls: None })
    }

    /// Whether an address begins with `https://`.
    pub fn needs_tls(&self) -> bool {
        match self {
            Self::Urls { urls, .. } => urls.iter().any(|url| url.scheme_str() == Some("https")),
            Self::Link(_) => false,
        }
    }

    /// With what aggregators at `https://` are known by.
    #[must_use]
    pub fn with_tls(self, client: Client) -> Self {
        match self {
            Self::Urls { urls, token, .. } => Self::Urls { urls, token, tls: Some(client) },
            link => link,
        }
    }

    pub(crate) fn tls(&self) -> Option<&Client> {
        match self {
            Self::Urls { tls, .. } => tls.as_ref(),
            Self::Link(_) => None,
        }
    }

    pub(crate) fn address(&self, at: usize) -> Address {
        match self {
            Self::Urls { urls, tls, .. } => {
                Address::Url(urls[at % urls.len()].clone(), tls.clone())
            }
            Self::Link(link) => Address::Link(link.clone()),
        }
    }

    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            Self::Urls { token, .. } => token.clone(),
            Self::Link(_) => None,
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Uri> {
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = url.parse().with_context(|| {
        format!("aggregator: expected an address such as \"http://host:7071\", found {text:?}")
    })?;
    match uri.scheme_str() {
        // A bare word is more likely a slip than a host on the port of web servers.
        Some("http" | "https")
            if uri.host().is_some_and(|host| !host.is_empty())
                && (text.contains("://") || uri.port().is_some()) =>
        {
            Ok(uri)
        }
        _ => bail!("aggregator: expected an address such as \"http://host:7071\", found {text:?}"),
    }
}

/// What a collector proves itself with. Never shown.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Token {
    /// # Errors
    /// When the text is empty or holds characters that cannot travel in a header.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            bail!("the token is empty");
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {text}").parse().map_err(|_| {
            anyhow::anyhow!("the token holds characters that are not visible ASCII")
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(crate) fn header(&self) -> MetadataValue<Ascii> {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_starts() {
        fn check(url: &str, expected: Result<&str, &str>) {
            match (Target::urls(&[url.to_owned()], None), expected) {
                (Ok(target), Ok(expected)) => {
                    assert_eq!(target.address(3).to_string(), expected);
                }
                (Err(error), Err(expected)) => {
                    assert!(format!("{error:#}").contains(expected), "{error:#}");
                }
                (found, expected) => panic!("{url}: expected {expected:?}, found {found:?}"),
            }
        }
        check("http://hub:7071", Ok("http://hub:7071/"));
        check(" hub:7071", Ok("http://hub:7071/"));
        check("https://hub:7071", Ok("https://hub:7071/"));
        check("https://", Err("found \"https://\""));
        check("http://hub", Ok("http://hub/"));
        check("hub", Err("expected an address such as \"http://host:7071\", found \"hub\""));
        check("ftp://hub", Err("found \"ftp://hub\""));
        check("http://", Err("found \"http://\""));
        check("", Err("found \"\""));
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new(" s3cret\n").expect("a token");
        assert!(!format!("{token:?}").contains("s3cret"));
        assert_eq!(token.header().to_str().expect("text"), "Bearer s3cret");
        assert!(Token::new("\n").is_err());
    }
}
