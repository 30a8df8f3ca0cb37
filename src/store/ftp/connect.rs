//! Opens a control connection and logs in.

use std::time::Duration;

use suppaftp::FtpError;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Answer, Failure};
use super::session::{COMMAND_TIMEOUT, Control, Session};
use super::tls::Authorities;
use super::{FtpConfig, Tls};
use crate::store::StoreErrorKind;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// User and password of an anonymous login; by convention the password is an e-mail address.
const ANONYMOUS: (&str, &str) = ("anonymous", "hfl@");

/// Connects and logs in.
pub(super) async fn connect(config: &FtpConfig, authorities: Option<&Authorities>) -> Result<Session, Failure> {
    let control = match (config.tls, authorities) {
        (Tls::Explicit, Some(authorities)) => explicit(config, authorities).await?,
        (Tls::Implicit, Some(authorities)) => implicit(config, authorities).await?,
        _ => plain(config).await?,
    };
    let _ = control.get_ref().await.set_nodelay(true);
    let control = control.passive_stream_builder(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await.map_err(FtpError::ConnectionError)?;
            stream.set_nodelay(true).map_err(FtpError::ConnectionError)?;
            Ok(stream)
        })
    });
    let mut session = Session::new(control);
    if config.tls == Tls::Implicit {
        // With explicit TLS the library sends these itself.
        session.demand("PBSZ 0").await?;
        session.demand("PROT P").await?;
    }
    log_in(&mut session, config).await?;
    session.prepare().await?;
    Ok(session)
}

async fn plain(config: &FtpConfig) -> Result<Control, Failure> {
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect((config.host.as_str(), config.port()))).await;
    let stream = connecting.map_err(|_| Failure::timed_out("connecting"))?.map_err(|e| Failure::io(&e))?;
    let greeted = timeout(COMMAND_TIMEOUT, Control::connect_with_stream(stream)).await;
    greeted.map_err(|_| Failure::timed_out("waiting for the greeting"))?.map_err(turned_away)
}

async fn explicit(config: &FtpConfig, authorities: &Authorities) -> Result<Control, Failure> {
    let control = plain(config).await?;
    let secured = timeout(COMMAND_TIMEOUT, control.into_secure(authorities.connector(), &config.host)).await;
    secured.map_err(|_| Failure::timed_out("setting up TLS"))?.map_err(|e| match &e {
        FtpError::UnexpectedResponse(response) if Answer::from(response).code != 421 => {
            let Answer { code, text } = Answer::from(response);
            Failure::new(StoreErrorKind::Protocol, format!("the server offers no TLS: it answered {code} {text}"))
        }
        _ => turned_away(e),
    })
}

async fn implicit(config: &FtpConfig, authorities: &Authorities) -> Result<Control, Failure> {
    let address = (config.host.as_str(), config.port());
    let connecting = Control::connect_secure_implicit(address, authorities.connector(), &config.host);
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    connected.map_err(|_| Failure::timed_out("connecting"))?.map_err(turned_away)
}

fn turned_away(error: FtpError) -> Failure {
    match &error {
        FtpError::UnexpectedResponse(response) => Answer::from(response).not_let_in(),
        _ => error.into(),
    }
}

async fn log_in(session: &mut Session, config: &FtpConfig) -> Result<(), Failure> {
    let user = config.user.as_deref().unwrap_or(ANONYMOUS.0);
    let answer = session.ask(&format!("USER {user}")).await?;
    if answer.is_done() {
        return Ok(());
    }
    if answer.code != 331 {
        return Err(answer.not_let_in());
    }
    let password = match (&config.password, user) {
        (Some(password), _) => password.reveal(),
        (None, "anonymous" | "ftp") => ANONYMOUS.1,
        (None, _) => return Err(Failure::new(StoreErrorKind::Denied, "the server wants a password and none is set")),
    };
    let mut answer = session.ask(&format!("PASS {password}")).await?;
    if answer.is_done() {
        return Ok(());
    }
    // The server may echo the password in its refusal.
    if !password.is_empty() {
        answer.text = answer.text.replace(password, "(secret)");
    }
    Err(answer.not_let_in())
}
