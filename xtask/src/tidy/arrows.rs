//! The arrows between the project's crates, compared with what cargo says.
//!
//! The two halves stay apart because nothing depends on more than the list below allows, in any kind of dependency.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use super::Finding;
use crate::workspace::Workspace;

/// Who may depend on whom; everything that is not here is forbidden.
const ALLOWED: &[(&str, &[&str])] = &[
    ("strata-protocol", &[]),
    ("strata-store", &[]),
    ("strata-server", &["strata-store", "strata-protocol"]),
    ("strata-load", &["strata-protocol"]),
    (
        "strata-benches",
        &["strata-store", "strata-protocol", "strata-server"],
    ),
    ("strata-fuzz", &["strata-store", "strata-protocol"]),
    ("xtask", &[]),
    ("strata-client-check", &[]),
];
/// The manifests that are workspaces of their own.
const APART: &[&str] = &["engine/fuzz/Cargo.toml", "xtask/clients/rust/Cargo.toml"];

/// One crate and those of our crates that it depends on.
pub struct Crate {
    name: String,
    needs: BTreeSet<String>,
    has_dependencies: bool,
}

/// The crates of the workspace, and those that stand apart from it.
pub fn of_workspace(workspace: &Workspace) -> Result<Vec<Crate>> {
    let mut packages = workspace.metadata.packages.clone();
    for manifest in APART {
        let metadata = MetadataCommand::new()
            .manifest_path(workspace.root.join(manifest))
            .no_deps()
            .exec()
            .context(*manifest)?;
        packages.extend(metadata.packages);
    }
    Ok(packages.iter().map(crate_of).collect())
}

fn crate_of(package: &Package) -> Crate {
    let ours = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_some());
    let needs = ours.map(|dependency| dependency.name.clone()).collect();
    // What only its tests use does not reach those who use the crate.
    let has_dependencies = package
        .dependencies
        .iter()
        .any(|dependency| dependency.kind != DependencyKind::Development);
    Crate {
        name: package.name.to_string(),
        needs,
        has_dependencies,
    }
}

/// What is wrong with these crates.
pub fn findings(crates: &[Crate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Crate {
        name,
        needs,
        has_dependencies,
    } in crates
    {
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
            findings.push(Finding::new(
                name,
                1,
                "is a crate the list of arrows does not know",
            ));
            continue;
        };
        for other in needs
            .iter()
            .filter(|other| !allowed.contains(&other.as_str()))
        {
            findings.push(Finding::new(name, 1, format!("must not depend on {other}")));
        }
        if name == "strata-protocol" && *has_dependencies {
            findings.push(Finding::new(name, 1, "must have no dependency at all"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, needs: &[&str]) -> Vec<Crate> {
        let needs: BTreeSet<String> = needs.iter().map(|need| (*need).to_owned()).collect();
        vec![Crate {
            name: name.into(),
            has_dependencies: !needs.is_empty(),
            needs,
        }]
    }

    #[test]
    fn an_arrow_against_the_list_is_found() {
        assert!(findings(&one("strata-server", &["strata-store", "strata-protocol"])).is_empty());
        assert_eq!(findings(&one("strata-load", &["strata-store"])).len(), 1);
        assert_eq!(findings(&one("xtask", &["strata-protocol"])).len(), 1);
    }

    #[test]
    fn an_unknown_crate_is_found() {
        assert_eq!(findings(&one("strata-extra", &[])).len(), 1);
    }

    #[test]
    fn a_dependency_of_the_protocol_is_found() {
        let mut crates = one("strata-protocol", &[]);
        assert!(findings(&crates).is_empty());
        crates[0].has_dependencies = true;
        assert_eq!(findings(&crates).len(), 1);
    }
}
