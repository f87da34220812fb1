//! Redis: whether it answers, and what `INFO` tells of its memory, evictions, restarts and writes that it
//! refuses (SEED_FACTS §4). Nothing is written, and no key is read.

use std::{collections::HashMap, time::Duration};

use mcp_health_core::{
    signals::{CheckStep, Failure},
    words,
};
use net::{Proof, Stream};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, Value,
    aio::MultiplexedConnection, cmd,
};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout_at},
};

use crate::{
    Access, Asked, Barred, Permit, Trust, connect,
    said::{said, size},
    tls::secure,
};

/// All answers together are no longer than this, in bytes.
const ANSWERS: u64 = 1 << 20;
/// A restart is worth saying for so long, in seconds.
const RECENT: u64 = 300;

/// What is compared with the next look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Of this run of the server.
    run: String,
    evicted: u64,
    /// Commands that it refused: for want of memory, as a replica, since it cannot write to disk.
    refused: [u64; 3],
}

/// Asks it. `before` is what the last look gave; what is given back is for the next. `Err` where it may not
/// be asked, with the reason for people.
pub async fn ask(
    access: &Access,
    trust: &Trust,
    before: Option<&Look>,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<(Asked, Option<Look>), String> {
    let until = Instant::now() + patience;
    let mut asked = Asked::default();
    let info = match info(access, trust, permit, until, &mut asked).await {
        Ok(info) => info,
        Err(barred) => return Ok((asked.ended(Err(barred))?, None)),
    };
    let Some(info) = info else { return Ok((asked, None)) };
    let look = info.look();
    let same = before.filter(|before| before.run == look.run);
    asked.remarks = info.remarks(same, before.is_some());
    asked.result =
        info.refuses_writes(&look, same).map_or(Ok(()), |said| Err(Failure::new(CheckStep::Answer, said)));
    Ok((asked, Some(look)))
}

/// What `INFO` tells, by name; `None` where the user may not ask for it, which is a remark.
async fn info(
    access: &Access,
    trust: &Trust,
    permit: Permit<'_>,
    until: Instant,
    asked: &mut Asked,
) -> Result<Option<Info>, Barred> {
    let refused = |error: &RedisError| refusal(error, access);
    let late = |_| Failure::new(CheckStep::Answer, "takes the connection, and does not answer in time");
    let left = until.saturating_duration_since(Instant::now());
    let stream = connect(&access.host, access.port, permit, left).await?;
    let stream: Box<dyn Stream> = if access.tls {
        let (session, certificate) = secure(stream, &access.host, Proof::Name(trust), &[], until).await;
        asked.certificate = certificate;
        Box::new(session?)
    } else {
        Box::new(stream)
    };
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(reader.take(ANSWERS), writer);
    // Who asks is told by hand: the library keeps to itself why a login is refused.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let connected = MultiplexedConnection::new_with_config(&nobody, stream, config);
    let (mut connection, driver) =
        timeout_at(until, connected).await.map_err(late)?.map_err(|error| refused(&error))?;
    let asking = async {
        if let Some(login) = login(access) {
            login.query_async::<Value>(&mut connection).await.map_err(|error| match refused(&error) {
                // Whatever it says to a login that is not of its state is of the login.
                Failure { step: CheckStep::Answer, said }
                    if error.code() == Some("ERR") && !is_full(&error) =>
                {
                    Failure::new(CheckStep::Login, said)
                }
                failure => failure,
            })?;
        }
        if let Some(database) = access.path.as_deref().filter(|path| !path.is_empty()) {
            cmd("SELECT")
                .arg(database)
                .query_async::<Value>(&mut connection)
                .await
                .map_err(|error| refused(&error))?;
        }
        cmd("PING").query_async::<Value>(&mut connection).await.map_err(|error| refused(&error))?;
        match cmd("INFO").query_async::<Value>(&mut connection).await {
            Ok(info) => Ok(Ok(info)),
            Err(error) if error.code() == Some("NOPERM") => Ok(Err(())),
            Err(error) => Err(refused(&error)),
        }
    };
    tokio::pin!(asking, driver);
    let answer = timeout_at(until, async {
        tokio::select! {
            biased;
            answer = &mut asking => answer,
            () = &mut driver => asking.await,
        }
    });
    match answer.await.map_err(late)?? {
        Ok(Value::BulkString(text)) => Ok(Some(Info::of(&String::from_utf8_lossy(&text)))),
        Ok(_) => Err(Failure::new(CheckStep::Handshake, "does not speak the protocol of Redis").into()),
        Err(()) => {
            asked.remarks.push("does not tell of its memory: its user may not use INFO".to_owned());
            Ok(None)
        }
    }
}

fn login(access: &Access) -> Option<Cmd> {
    let mut login = cmd("AUTH");
    match (&*access.user, &*access.password) {
        (_, "") => return None,
        ("", password) => login.arg(password),
        (user, password) => login.arg(user).arg(password),
    };
    Some(login)
}

/// It takes no more clients.
fn is_full(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("max number of clients"))
}

fn refusal(error: &RedisError, access: &Access) -> Failure {
    let words = |text: &str| said(text, &[&access.password]);
    let (step, said) = match (error.code(), error.kind()) {
        (Some("NOAUTH"), _) => (CheckStep::Login, "asks for a password, and its Secret has none".to_owned()),
        (Some("WRONGPASS"), _) => (CheckStep::Login, "refuses its user or password (WRONGPASS)".to_owned()),
        (Some("NOPERM"), _) => (
            CheckStep::Login,
            format!("does not let its user ask: {}", words(error.detail().unwrap_or_default())),
        ),
        (Some("DENIED"), _) => (
            CheckStep::Login,
            "is in protected mode: it takes connections from its own machine only".to_owned(),
        ),
        (Some("LOADING"), _) => {
            (CheckStep::Answer, "is loading its data, and answers nothing until then".to_owned())
        }
        (Some("MISCONF"), _) => (CheckStep::Answer, NOT_WRITTEN.to_owned()),
        (Some("MASTERDOWN"), _) => (
            CheckStep::Answer,
            "is a replica that has lost its primary, and answers nothing (MASTERDOWN)".to_owned(),
        ),
        (Some(_), _) if is_full(error) => {
            (CheckStep::Answer, "takes no more clients (maxclients is reached)".to_owned())
        }
        (Some(code), _) => {
            (CheckStep::Answer, words(&format!("answers {code} {}", error.detail().unwrap_or_default())))
        }
        (None, ErrorKind::Io) => (CheckStep::Answer, "cuts the connection before its answer".to_owned()),
        (None, _) => (CheckStep::Handshake, "does not speak the protocol of Redis".to_owned()),
    };
    Failure::new(step, said)
}

const NOT_WRITTEN: &str = "refuses writes: it cannot write its data to disk (MISCONF)";

/// What `INFO` tells, by name.
struct Info(HashMap<String, String>);

impl Info {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// How often a command was answered with this error since it is counted (Redis 6.2).
    fn errors(&self, code: &str) -> u64 {
        let count = self.text(&format!("errorstat_{code}")).strip_prefix("count=");
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn look(&self) -> Look {
        Look {
            run: self.text("run_id").to_owned(),
            evicted: self.number("evicted_keys").unwrap_or(0),
            refused: ["OOM", "READONLY", "MISCONF"].map(|code| self.errors(code)),
        }
    }

    /// What counts against `maxmemory`, and `maxmemory` where there is any.
    fn memory(&self) -> Option<(u64, Option<u64>)> {
        let uncounted = self.number("mem_not_counted_for_evict").unwrap_or(0);
        let used = self.number("used_memory")?.saturating_sub(uncounted);
        Some((used, self.number("maxmemory").filter(|limit| *limit > 0)))
    }

    /// The memory as people say it.
    fn fullness(&self) -> Option<String> {
        let (used, limit) = self.memory()?;
        Some(match limit {
            Some(limit) => {
                let policy = said(self.text("maxmemory_policy"), &[]);
                format!("{} of {}, policy {policy}", size(used), size(limit))
            }
            None => format!("{}, without a limit", size(used)),
        })
    }

    /// That it refuses writes now, where a server that depends on it writes.
    fn refuses_writes(&self, look: &Look, before: Option<&Look>) -> Option<String> {
        let more = |which: usize| before.is_some_and(|before| look.refused[which] > before.refused[which]);
        // A large value is refused a little below the limit already, and its size is not told.
        let nearly = |limit: u64| if self.errors("OOM") > 0 { limit - limit / 20 } else { limit };
        let is_full = matches!(self.memory(), Some((used, Some(limit))) if used >= nearly(limit))
            && self.text("maxmemory_policy") == "noeviction";
        if is_full || more(0) {
            let fullness = self.fullness().unwrap_or_default();
            return Some(format!("its memory is full ({fullness}): writes are refused"));
        }
        if more(1) {
            return Some(
                "is a read-only replica, and was written to: writes are refused (READONLY)".to_owned(),
            );
        }
        more(2).then(|| NOT_WRITTEN.to_owned())
    }

    fn remarks(&self, same: Option<&Look>, was_seen: bool) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(up) = self.number("uptime_in_seconds").filter(|up| *up < RECENT) {
            let verb = if was_seen && same.is_none() { "restarted" } else { "started" };
            remarks.push(format!("{verb} {up} s ago"));
        }
        let evicted = self
            .number("evicted_keys")
            .unwrap_or(0)
            .saturating_sub(same.map_or(u64::MAX, |same| same.evicted));
        if evicted > 0 {
            let keys = words::count(usize::try_from(evicted).unwrap_or(usize::MAX), "key");
            remarks.push(format!("evicted {keys} since the last look"));
        }
        remarks.extend(self.fullness().map(|fullness| format!("uses {fullness}")));
        if self.text("rdb_last_bgsave_status") == "err" {
            remarks.push("its last snapshot failed".to_owned());
        }
        if self.text("aof_last_write_status") == "err" {
            remarks.push("its append-only file cannot be written".to_owned());
        }
        if self.text("role") == "slave" {
            let primary = said(self.text("master_host"), &[]);
            let link = if self.text("master_link_status") == "up" { "" } else { ", and has lost it" };
            remarks.push(format!("is a replica of {primary}{link}"));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(more: &str) -> Info {
        Info::of(&format!(
            "run_id:a\r\nuptime_in_seconds:4000\r\nused_memory:1073741824\r\nmaxmemory_policy:noeviction\r\n{more}"
        ))
    }

    #[test]
    fn memory_is_full_where_writes_are_refused_for_it() {
        let refuses = |more: &str, before: Option<&Look>| {
            let info = info(more);
            info.refuses_writes(&info.look(), before)
        };
        assert_eq!(refuses("maxmemory:0", None), None);
        assert_eq!(refuses("maxmemory:2147483648", None), None);
        let full =
            Some("its memory is full (1 GiB of 1 GiB, policy noeviction): writes are refused".to_owned());
        assert_eq!(refuses("maxmemory:1073741824", None), full);
        assert_eq!(refuses("maxmemory:1073741824\r\nmaxmemory_policy:allkeys-lru", None), None);
        // A little below it, where a value was too large before.
        assert_eq!(refuses("maxmemory:1100000000", None), None);
        assert!(refuses("maxmemory:1100000000\r\nerrorstat_OOM:count=1", None).is_some());
        // Buffers of replicas do not count.
        assert_eq!(refuses("maxmemory:1073741824\r\nmem_not_counted_for_evict:9", None), None);
        let before = Look { run: "a".to_owned(), evicted: 0, refused: [1, 0, 0] };
        assert_eq!(refuses("maxmemory:0\r\nerrorstat_OOM:count=1", Some(&before)), None);
        assert!(refuses("maxmemory:0\r\nerrorstat_OOM:count=2", Some(&before)).is_some());
        assert!(refuses("errorstat_READONLY:count=2", Some(&before)).is_some());
        assert_eq!(
            refuses("errorstat_OOM:count=1\r\nerrorstat_MISCONF:count=1", Some(&before)).as_deref(),
            Some(NOT_WRITTEN)
        );
    }

    #[test]
    fn evictions_and_restarts_are_told_between_two_looks() {
        let before = Look { run: "a".to_owned(), evicted: 5, ..Look::default() };
        let of = |more: &str, same: Option<&Look>, was_seen| info(more).remarks(same, was_seen).join("; ");
        let uses = "uses 1 GiB of 2 GiB, policy allkeys-lru";
        let memory = "maxmemory:2147483648\r\nmaxmemory_policy:allkeys-lru\r\nevicted_keys:7";
        assert_eq!(of(memory, None, false), uses);
        assert_eq!(of(memory, Some(&before), true), format!("evicted 2 keys since the last look; {uses}"));
        let recent = format!("{memory}\r\nuptime_in_seconds:40");
        assert_eq!(of(&recent, None, true), format!("restarted 40 s ago; {uses}"));
        assert_eq!(of(&recent, None, false), format!("started 40 s ago; {uses}"));
        let replica = "role:slave\r\nmaster_host:redis-0\r\nmaster_link_status:down";
        assert!(of(replica, None, false).ends_with("is a replica of redis-0, and has lost it"));
    }

    proptest! {
        #[test]
        fn whatever_info_tells_nothing_panics(text: String) {
            let info = Info::of(&text);
            let _ = (info.remarks(Some(&info.look()), true), info.refuses_writes(&info.look(), None));
        }
    }
}
