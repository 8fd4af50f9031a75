//! The administrator's kubeconfig: written anew in the data directory, joined to the user's own where they name a file.
//!
//! A file that `--kubeconfig` names may hold the ways to other clusters; it keeps them. As other local clusters do it,
//! ours becomes the current context.

use anyhow::{Context as _, Result, bail};
use serde_yaml_ng::{Mapping, Value};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The lists of a kubeconfig, whose entries have names.
const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// Writes `ours` where the user wants it, else into `data_dir`, and gives the file. Its mode is 0600.
pub(super) fn write(wanted: Option<PathBuf>, data_dir: &Path, ours: &str) -> Result<PathBuf> {
    let Some(path) = wanted else {
        let path = data_dir.join("kubeconfig");
        control_server::write_private(&path, ours)?;
        return Ok(path);
    };
    let text = match fs::read_to_string(&path) {
        Ok(theirs) => merged(&theirs, ours).with_context(|| {
            format!("cannot add to --kubeconfig {}: mend it, or name a new file", path.display())
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => ours.to_owned(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read --kubeconfig {}", path.display()));
        }
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.with_context(|| format!("cannot make {} for --kubeconfig", parent.display()))?;
    }
    // A link, as dotfiles often are, stays one.
    let target = fs::canonicalize(&path).unwrap_or_else(|_new| path.clone());
    control_server::write_private(&target, &text)?;
    Ok(path)
}

/// `theirs` with our entries in the place of those of the same names, and our context as the current one.
fn merged(theirs: &str, ours: &str) -> Result<String> {
    let mut merged = match serde_yaml_ng::from_str(theirs)? {
        Value::Null => Mapping::new(),
        Value::Mapping(mapping) => mapping,
        _ => bail!("it is not a mapping"),
    };
    match merged.get("kind").map(|kind| kind.as_str()) {
        None | Some(Some("Config")) => {}
        Some(_) => bail!("its kind is not Config"),
    }
    let Value::Mapping(ours) = serde_yaml_ng::from_str(ours)? else { bail!("ours is not a mapping") };
    for (key, value) in ours {
        let name = key.as_str().unwrap_or_default();
        let Some(list) = LISTS.into_iter().find(|list| *list == name) else {
            merged.insert(key, value);
            continue;
        };
        let Value::Sequence(added) = value else { bail!("our {list} are not a list") };
        let mut entries = match merged.remove(list) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Sequence(entries)) => entries,
            Some(_) => bail!("its {list} are not a list"),
        };
        entries.retain(|entry| added.iter().all(|added| added.get("name") != entry.get("name")));
        entries.extend(added);
        merged.insert(key, Value::Sequence(entries));
    }
    Ok(serde_yaml_ng::to_string(&merged)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const OURS: &str = "apiVersion: v1\nkind: Config\ncurrent-context: wharf\nclusters:\n- name: wharf\n  cluster: {server: new}\n\
                        contexts: []\nusers: []\n";

    #[test]
    fn a_file_of_the_users_own_keeps_its_clusters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config");
        assert_eq!(write(Some(path.clone()), dir.path(), OURS).unwrap(), path);
        fs::write(
            &path,
            "kind: Config\ncurrent-context: prod\nclusters:\n- name: prod\n  cluster: {server: far}\n- name: wharf\n  cluster: {server: old}\nusers:\n",
        )
        .unwrap();
        write(Some(path.clone()), dir.path(), OURS).unwrap();
        let merged: Value = serde_yaml_ng::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(merged["current-context"], Value::from("wharf"));
        let servers: Vec<_> = merged["clusters"]
            .as_sequence()
            .unwrap()
            .iter()
            .map(|cluster| cluster["cluster"]["server"].as_str().unwrap())
            .collect();
        assert_eq!(servers, ["far", "new"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        for text in ["kind: Pod\n", "- a\n", "clusters: 3\n", "{"] {
            fs::write(&path, text).unwrap();
            let error = write(Some(path.clone()), dir.path(), OURS).unwrap_err();
            assert!(format!("{error:#}").contains("cannot add to --kubeconfig"), "{error:#}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn without_a_wish_it_lies_in_the_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(None, dir.path(), OURS).unwrap();
        assert_eq!(path, dir.path().join("kubeconfig"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
