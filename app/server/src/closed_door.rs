//! What the API's address answers while the servers behind it are not there yet: alive, and not
//! ready. Otherwise whoever watches the process would take it for dead.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use ratebox_gateway::ListenSettings;
use ratebox_kit::Tasks;
use tokio::net::TcpListener;

/// Answers under way when the door opens may take this long.
const DRAIN: Duration = Duration::from_secs(1);

/// Everything else but whether the process lives.
const NOT_YET: &str = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the service is starting and waits for its servers","code":"service.starting"}"#;

/// The address of the API before its start.
pub struct ClosedDoor {
    listener: std::net::TcpListener,
    tasks: Tasks,
}

type Answer = (StatusCode, [(HeaderName, &'static str); 3], &'static str);

// === impl ClosedDoor ===

impl ClosedDoor {
    /// Takes the address and answers there from now on.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn at(listen: SocketAddr) -> Result<Self> {
        let listener = ratebox_gateway::bind(listen).with_context(|| {
            format!("server.listen {listen} cannot be used; choose another with --listen")
        })?;
        let tasks = Tasks::new();
        let kept = listener.into_std()?;
        let settings = ListenSettings {
            drain: DRAIN,
            ..ListenSettings::default()
        };
        let answering = TcpListener::from_std(kept.try_clone()?)?;
        ratebox_gateway::serve(answering, router(), settings, &tasks);
        Ok(Self {
            listener: kept,
            tasks,
        })
    }

    /// The address that was taken, with its port where any free one was asked for.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.listener.local_addr();
        address.context("the listener has no address")
    }

    /// Stops answering and gives the address on. Connections that come meanwhile wait.
    ///
    /// # Errors
    /// When the runtime cannot take the listener.
    pub async fn open(self) -> Result<TcpListener> {
        let _late = self.tasks.join(DRAIN * 2).await;
        TcpListener::from_std(self.listener).context("the listener cannot be used")
    }
}

fn router() -> Router {
    let alive = async || {
        answer(
            StatusCode::OK,
            "application/json",
            r#"{"status":"starting"}"#,
        )
    };
    Router::new()
        .route("/api/health/live", get(alive))
        .fallback(async || {
            answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "application/problem+json",
                NOT_YET,
            )
        })
}

fn answer(status: StatusCode, kind: &'static str, body: &'static str) -> Answer {
    let headers = [
        (CONTENT_TYPE, kind),
        (RETRY_AFTER, "1"),
        (CONNECTION, "close"),
    ];
    (status, headers, body)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_it_answers_is_a_problem_that_programs_can_read() {
        let problem: Value = serde_json::from_str(NOT_YET).unwrap();
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&503.into(), &"service.starting".into())
        );
    }

    #[tokio::test]
    async fn the_address_goes_on_to_the_open_door() {
        let door = ClosedDoor::at("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let address = door.address().unwrap();
        assert_ne!(address.port(), 0, "whoever asks could not come");
        let listener = door.open().await.unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        let (accepted, connected) =
            tokio::join!(listener.accept(), tokio::net::TcpStream::connect(address));
        assert!(accepted.is_ok() && connected.is_ok());
    }
}
