//! `mysql::can_reload`: that an account may have every server load its certificate again, before anything is changed.

use std::time::Duration;

use serde_json::{Value, json};

use super::login;
use super::servers::{self, PATIENCE, WITHIN};
use super::session::{Failure, Reply, Session};
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::tidb::probe;
use crate::tidb::sql_servers::Servers;
use crate::world::World;

const PAUSE: Duration = Duration::from_secs(1);

/// `mysql::can_reload(component, login)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let part = args::map(args, 0, "component")?;
    let login = login::read(world, args, 1).await?;
    let mut waited = Duration::ZERO;
    loop {
        let servers = Servers::read(world, part).await?;
        let identity = probe::identity(&servers.client)?;
        let anchors = servers::anchors(&servers.client.anchors);
        let (mut told, mut late) = (Vec::new(), None);
        for endpoint in &servers.endpoints {
            match asked(world, servers::open(world, endpoint, &identity, &anchors, &login).await).await {
                Ok((may, version, until)) => {
                    if !may {
                        return Err(servers::not_allowed(&endpoint.pod, &login.user, "other privileges"));
                    }
                    told.push(json!({ "pod": endpoint.pod, "version": version, "not_after": until }));
                }
                Err(failure) => {
                    if let Some(error) = servers::hopeless(&failure, &endpoint.pod, &login) {
                        return Err(error);
                    }
                    late.get_or_insert_with(|| servers::unreached(world, &failure, &endpoint.pod));
                }
            }
        }
        let there = told.len() as u64;
        if late.is_none() && there >= servers.wanted {
            return Ok(json!({ "servers": told }));
        }
        let late = late.unwrap_or_else(|| {
            PrimError::new(Code::Unproved, "not every server is there to be asked")
                .expected(format!("{} servers", servers.wanted), there.to_string())
        });
        if waited >= PATIENCE {
            return Err(late);
        }
        gate.progress(Progress { text: late.to_string(), done: Some((there, servers.wanted)) });
        world.clock.sleep(PAUSE).await;
        waited += PAUSE;
    }
}

type Asked = (bool, String, Option<String>);

async fn asked(world: &World, session: Result<Session, Failure>) -> Result<Asked, Failure> {
    let mut session = session?;
    let Reply::Rows(grants) = session.run(world, "SHOW GRANTS", WITHIN).await? else {
        return Err(Failure::Protocol("it tells no privileges".into()));
    };
    let may = grants.iter().flatten().flatten().any(|grant| allows_reload(grant));
    let status = session.run(world, "SHOW STATUS LIKE 'Ssl_server_not_after'", WITHIN).await?;
    let until = match status {
        Reply::Rows(rows) => rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten(),
        Reply::Done => None,
    };
    let version = session.version().to_owned();
    session.close().await;
    Ok((may, version, until))
}

/// Whether a line of `SHOW GRANTS` gives the right.
fn allows_reload(grant: &str) -> bool {
    let Some((privileges, on)) = grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON ")) else {
        return false;
    };
    on.starts_with("*.*")
        && privileges
            .split(',')
            .map(str::trim)
            .any(|privilege| matches!(privilege, "ALL PRIVILEGES" | "SUPER" | "CONNECTION_ADMIN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_to_reload_is_read_from_grants() {
        for yes in [
            "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION",
            "GRANT SELECT, SUPER ON *.* TO `a`@`%`",
            "GRANT BACKUP_ADMIN,CONNECTION_ADMIN ON *.* TO 'a'@'%'",
        ] {
            assert!(allows_reload(yes), "{yes}");
        }
        for no in [
            "GRANT USAGE ON *.* TO 'a'@'%'",
            "GRANT ALL PRIVILEGES ON `app`.* TO 'a'@'%'",
            "GRANT SELECT ON *.* TO 'SUPER'@'%'",
            "GRANT 'SUPER'@'%' TO 'a'@'%'",
        ] {
            assert!(!allows_reload(no), "{no}");
        }
    }
}
