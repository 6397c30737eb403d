//! E-mail by SMTP.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls as SmtpTls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransport, Error};
use lettre::{AsyncTransport as _, Message as Email, Tokio1Executor};
use proto::convert::FieldError;

use super::channel::{Mail, text_field};
use super::{Answer, Message, Tls};

const RECIPIENTS_MAX: usize = 50;

pub(super) fn check(mail: &Mail) -> Result<(), FieldError> {
    text_field("email.host", &mail.host)?;
    mailbox("email.from", &mail.from)?;
    if mail.to.is_empty() || mail.to.len() > RECIPIENTS_MAX {
        let problem = format!("expected 1 to {RECIPIENTS_MAX} addresses, found {}", mail.to.len());
        return Err(FieldError::new("email.to", problem));
    }
    for (i, to) in mail.to.iter().enumerate() {
        mailbox(&format!("email.to[{i}]"), to)?;
    }
    if mail.username.is_empty() != mail.password.is_empty() {
        return Err(FieldError::new("email.password", "expected together with username"));
    }
    if mail.tls == Tls::None && !mail.username.is_empty() {
        let problem = "expected starttls or implicit: a password must not travel in clear";
        return Err(FieldError::new("email.tls", problem));
    }
    Ok(())
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, FieldError> {
    let expected = "expected an address such as ops@example.org";
    text.parse().map_err(|_| FieldError::new(field, format!("{expected}, found {text:?}")))
}

pub(super) async fn send(mail: &Mail, message: &Message, timeout: Duration) -> Answer {
    let (email, transport) = match (compose(mail, message), transport(mail, timeout)) {
        (Ok(email), Ok(transport)) => (email, transport),
        (Err(reason), _) | (_, Err(reason)) => return Answer::Refused { reason },
    };
    match tokio::time::timeout(timeout, transport.send(email)).await {
        Err(_) => Answer::Retry { reason: "no answer in time".to_owned(), after: None },
        Ok(Ok(answer)) => {
            let text: Vec<&str> = answer.message().collect();
            Answer::Delivered { detail: format!("{} {}", answer.code(), text.join(" ")) }
        }
        Ok(Err(error)) if error.is_permanent() => Answer::Refused { reason: reason(&error) },
        Ok(Err(error)) => Answer::Retry { reason: reason(&error), after: None },
    }
}

fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

fn compose(mail: &Mail, message: &Message) -> Result<Email, String> {
    let mut builder = Email::builder().subject(message.title());
    builder = builder.from(mailbox("email.from", &mail.from).map_err(|e| e.to_string())?);
    for to in &mail.to {
        builder = builder.to(mailbox("email.to", to).map_err(|e| e.to_string())?);
    }
    let mut text = message.text();
    if let Some(url) = message.runbook_url() {
        text.push_str(&format!("\n\nRunbook: {url}"));
    }
    builder.body(text).map_err(|e| e.to_string())
}

fn transport(mail: &Mail, timeout: Duration) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let parameters = || TlsParameters::new(mail.host.clone()).map_err(|e| e.to_string());
    let tls = match mail.tls {
        // Required, not opportunistic: who cuts STARTTLS out of the answer must not read along.
        Tls::Starttls => SmtpTls::Required(parameters()?),
        Tls::Implicit => SmtpTls::Wrapper(parameters()?),
        Tls::None => SmtpTls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(timeout));
    if !mail.username.is_empty() {
        let credentials = Credentials::new(mail.username.clone(), mail.password.0.clone());
        builder = builder.credentials(credentials);
    }
    Ok(builder.build())
}
