//! A container's environment and arguments, from its spec and the objects it names. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use crate::{
    downward::{self, Facts},
    spec,
};

/// The names of ConfigMaps and Secrets that a container's environment refers to.
pub(crate) fn needed(container: &Container) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let mut config_maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|reference| reference.name.as_str()));
        secrets.extend(from.secret_ref.as_ref().map(|reference| reference.name.as_str()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.as_str()));
        secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.as_str()));
    }
    (config_maps, secrets)
}

/// What an environment is made from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) facts: &'a Facts,
    /// Those that exist.
    pub(crate) config_maps: &'a BTreeMap<String, ConfigMap>,
    /// Those that exist.
    pub(crate) secrets: &'a BTreeMap<String, Secret>,
    /// The variables of the Services, first and so overridden by all others.
    pub(crate) services: Vec<(String, String)>,
}

/// A container's variables in the order they are given; a later one of the same name holds. The error is the message
/// of a `CreateContainerConfigError`.
pub(crate) fn environment(
    container: &Container,
    sources: Sources<'_>,
) -> Result<Vec<(String, String)>, String> {
    let Sources { pod, facts, config_maps, secrets, services } = sources;
    let mut all = Environment::default();
    all.set("HOSTNAME".to_owned(), spec::hostname(pod));
    for (name, value) in services {
        all.set(name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            for (key, value) in find(config_maps, "configmap", &reference.name, optional)?
                .and_then(|map| map.data.as_ref())
                .into_iter()
                .flatten()
            {
                all.set(format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            for (key, value) in find(secrets, "secret", &reference.name, optional)?
                .and_then(|secret| secret.data.as_ref())
                .into_iter()
                .flatten()
            {
                all.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &all.values)),
            Some(source) => value_from(source, pod, container, facts, config_maps, secrets)?,
        };
        if let Some(value) = value {
            all.set(variable.name.clone(), value);
        }
    }
    Ok(all.in_order())
}

/// Variables in the order of their first appearance.
#[derive(Default)]
struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        // What no process could have as a variable is left out, as upstream does.
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return;
        }
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }

    fn in_order(mut self) -> Vec<(String, String)> {
        let Self { order, values } = &mut self;
        order.drain(..).filter_map(|name| values.remove(&name).map(|value| (name, value))).collect()
    }
}

fn find<'a, T>(
    objects: &'a BTreeMap<String, T>,
    kind: &str,
    name: &str,
    optional: bool,
) -> Result<Option<&'a T>, String> {
    match objects.get(name) {
        None if !optional => Err(format!("{kind} {name:?} not found")),
        found => Ok(found),
    }
}

fn value_from(
    source: &EnvVarSource,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    config_maps: &BTreeMap<String, ConfigMap>,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return downward::field(pod, facts, &field.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let of = match &selector.container_name {
            Some(name) if !name.is_empty() => spec::containers(pod)
                .find(|container| container.name == *name)
                .ok_or_else(|| format!("container {name} not found"))?,
            _ => container,
        };
        return downward::resource(of, facts, selector).map(Some);
    }
    let namespace = spec::namespace(pod);
    let missing =
        |kind: &str, name: &str, key: &str| format!("couldn't find key {key} in {kind} {namespace}/{name}");
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(map) = find(config_maps, "configmap", &reference.name, optional)? else { return Ok(None) };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            None if !optional => Err(missing("ConfigMap", &reference.name, &reference.key)),
            value => Ok(value.cloned()),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(secret) = find(secrets, "secret", &reference.name, optional)? else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            None if !optional => Err(missing("Secret", &reference.name, &reference.key)),
            value => Ok(value.map(|value| String::from_utf8_lossy(&value.0).into_owned())),
        };
    }
    Err("a variable's valueFrom names a source that is not supported (fileKeyRef)".to_owned())
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign, and what is not known stays as it is.
pub(crate) fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            match values.get(name) {
                Some(value) => result.push_str(value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

/// A container's argv: `command` then `args`, expanded. A component has no entrypoint, so without a `command` its
/// name stands first: the last part of the image's.
pub(crate) fn argv(container: &Container, env: &[(String, String)]) -> Vec<String> {
    let values: BTreeMap<String, String> = env.iter().cloned().collect();
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, &values)).collect()
    };
    let mut argv = expanded(&container.command);
    if argv.is_empty() {
        let image = container.image.as_deref().unwrap_or(&container.name);
        let last = image.rsplit('/').next().unwrap_or(image);
        argv.push(last.split([':', '@']).next().unwrap_or(last).to_owned());
    }
    argv.extend(expanded(&container.args));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[test]
    fn references_to_variables_are_expanded() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        let check = |text: &str, expect: &str| assert_eq!(expand(text, &values), expect, "{text}");
        check("$(A)-$(B)", "1-$(A)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$(C) $A $(A", "$(C) $A $(A");
        check("100$", "100$");
    }

    /// The variables of a container given as JSON.
    fn check(container: serde_json::Value, expect: Expect) {
        let container: Container = serde_json::from_value(container).unwrap();
        let facts = Facts {
            pod_ip: "10.244.0.5".to_owned(),
            host_ip: "127.0.0.1".to_owned(),
            node_cpu_millis: 2000,
            node_memory: 1 << 30,
        };
        let config: ConfigMap =
            serde_json::from_value(serde_json::json!({"data": {"k": "v", "bad=": "x"}})).unwrap();
        let secret: Secret = serde_json::from_value(serde_json::json!({"data": {"p": "c2VjcmV0"}})).unwrap();
        let pod = crate::fixtures::pod("Always a");
        let sources = Sources {
            pod: &pod,
            facts: &facts,
            config_maps: &BTreeMap::from([("cfg".to_owned(), config)]),
            secrets: &BTreeMap::from([("sec".to_owned(), secret)]),
            services: vec![("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())],
        };
        let got = match environment(&container, sources) {
            Ok(env) => env.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
            Err(error) => error,
        };
        expect.assert_eq(&got);
    }

    #[test]
    fn an_environment_is_made_from_values_and_from_what_they_name() {
        check(
            serde_json::json!({
                "name": "a",
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cfg"}}, {"secretRef": {"name": "sec"}}],
                "env": [
                    {"name": "X", "value": "$(P_k)-$(Y)"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "p"}}},
                    {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "p", "optional": true}}},
                    {"name": "HOSTNAME", "value": "mine"},
                ],
            }),
            expect![[r#"
                HOSTNAME=mine
                KUBERNETES_SERVICE_HOST=10.96.0.1
                P_k=v
                p=secret
                X=v-$(Y)
                IP=10.244.0.5
                PASS=secret
            "#]],
        );
    }

    #[test]
    fn what_is_missing_is_told_in_upstreams_words() {
        let with = |source: serde_json::Value| serde_json::json!({"name": "a", "env": [{"name": "X", "valueFrom": source}]});
        check(
            with(serde_json::json!({"configMapKeyRef": {"name": "no", "key": "k"}})),
            expect![[r#"configmap "no" not found"#]],
        );
        check(
            with(serde_json::json!({"configMapKeyRef": {"name": "cfg", "key": "z"}})),
            expect!["couldn't find key z in ConfigMap default/cfg"],
        );
        check(
            with(serde_json::json!({"secretKeyRef": {"name": "sec", "key": "z"}})),
            expect!["couldn't find key z in Secret default/sec"],
        );
        check(
            serde_json::json!({"name": "a", "envFrom": [{"secretRef": {"name": "no"}}]}),
            expect![[r#"secret "no" not found"#]],
        );
    }

    #[test]
    fn argv_is_command_and_args_or_begins_with_the_images_name() {
        let container = |command: &[&str], args: &[&str]| {
            let list = |list: &[&str]| Some(list.iter().map(|&text| text.to_owned()).collect());
            Container {
                image: Some("example/tools/web:v1".to_owned()),
                command: list(command),
                args: list(args),
                ..Container::default()
            }
        };
        let env = [("A".to_owned(), "1".to_owned())];
        assert_eq!(argv(&container(&["serve", "$(A)"], &["-x"]), &env), ["serve", "1", "-x"]);
        assert_eq!(argv(&container(&[], &["$(A)"]), &env), ["web", "1"]);
    }
}
