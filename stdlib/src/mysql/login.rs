//! Who logs in: an account, and where its password comes from. It is read when it is needed, and kept nowhere.

use serde_json::{Map, Value};

use super::session::Login;
use crate::error::{Code, PrimError};
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::k8s::content::{self, Flavor};
use crate::k8s::object::Ref;
use crate::registry::Touch;
use crate::secret::{Secret, handle_id};
use crate::world::World;

/// The account of a call: `{user, password}` with a handle, or `{user, namespace, secret, key}`.
pub(super) async fn read(world: &World, args: &[Value], index: usize) -> Result<Login, PrimError> {
    let login = args::map(args, index, "login")?;
    let user = args::field(login, "user", "login")?.to_owned();
    let password = match (login.get("password").filter(|value| !value.is_null()), named(login)) {
        (Some(_), Some(_)) => {
            return Err(
                PrimError::argument("`login` names both a password and a Secret").hint("give one of them")
            );
        }
        (Some(handle), None) if handle_id(handle).is_some() => world.secrets.get(handle)?,
        (Some(_), None) => {
            return Err(PrimError::argument("`login.password` is no secret")
                .hint("declare the parameter with `secret: true`: a text would become part of the record"));
        }
        (None, Some(name)) => of_secret(world, login, name, &user).await?,
        (None, None) => Secret::new(Vec::new(), ""),
    };
    Ok(Login { user, password })
}

fn named(login: &Map<String, Value>) -> Option<&str> {
    login.get("secret").and_then(Value::as_str).filter(|name| !name.is_empty())
}

async fn of_secret(
    world: &World,
    login: &Map<String, Value>,
    name: &str,
    user: &str,
) -> Result<Secret, PrimError> {
    let object = Ref::secret(args::field(login, "namespace", "login")?, name);
    // As the TidbInitializer has it: the account's name is the key.
    let key = login.get("key").and_then(Value::as_str).filter(|key| !key.is_empty()).unwrap_or(user);
    let hint = || format!("the password of `{user}` is looked for there under the key `{key}`");
    let value = Objects::of(world)?.find(&object).await?.ok_or_else(|| {
        PrimError::not_found("the Secret with the password does not exist")
            .on(object.to_string())
            .hint(hint())
    })?;
    let data = content::read(Flavor::Secret, &object, &value)?;
    let bytes = data.get(key).ok_or_else(|| {
        let keys: Vec<String> = data.keys().map(|key| format!("`{key}`")).collect();
        PrimError::new(Code::NotFound, format!("it has no key `{key}`"))
            .on(object.to_string())
            .expected(format!("`{key}`"), if keys.is_empty() { "no keys".into() } else { keys.join(", ") })
            .hint(hint())
    })?;
    Ok(Secret::new(bytes.to_vec(), world.secrets.keyed_digest(bytes)))
}

/// What reading it touches.
pub(super) fn touches(args: &[Value], index: usize) -> Vec<Touch> {
    let hint = |field| args::hint(args, index, field);
    match hint("secret") {
        "" => Vec::new(),
        name => vec![crate::k8s::object::touch("v1", "Secret", hint("namespace"), name, &["get"])],
    }
}
