//! Checks a world for inconsistencies.

use std::collections::HashSet;

use super::{Tables, Workload};
use crate::domain_name;

/// A message for each inconsistency, in the order of the tables.
pub(super) fn faults(tables: &Tables) -> Vec<String> {
    let mut faults = Vec::new();
    find_repeated(tables, &mut faults);
    find_dangling(tables, &mut faults);
    find_unusable(tables, &mut faults);
    faults
}

/// Repeated values of fields that identify an entry.
fn find_repeated(tables: &Tables, faults: &mut Vec<String>) {
    let mut once = |field: &str, values: Vec<&str>| {
        let mut seen = HashSet::new();
        let mut reported = HashSet::new();
        for value in values {
            if !seen.insert(value) && reported.insert(value) {
                faults.push(format!("{field} {value} is given more than once"));
            }
        }
    };
    let Tables { projects, users, keys, workloads: _, tokens, instances, certificates, domains, faults: answers } =
        tables;
    once("project id", projects.iter().map(|project| project.id.as_str()).collect());
    once("project name", projects.iter().map(|project| project.name.as_str()).collect());
    once("user", users.iter().map(|user| user.name.as_str()).collect());
    once("access key", keys.iter().map(|key| key.access.as_str()).collect());
    once("token", tokens.iter().map(|token| token.value.as_str()).collect());
    once("instance id", instances.iter().map(|instance| instance.id.as_str()).collect());
    once("certificate id", certificates.iter().map(|certificate| certificate.id.as_str()).collect());
    once("domain id", domains.iter().map(|domain| domain.id.as_str()).collect());
    once("fault of certificate", answers.iter().map(|fault| fault.certificate.as_str()).collect());
    for project in projects {
        let names = domains.iter().filter(|domain| domain.project == project.id);
        once(&format!("in project {}, domain", project.id), names.map(|domain| domain.name.as_str()).collect());
    }
    for domain in domains {
        once(&format!("in domain {}, instance", domain.name), domain.instances.iter().map(String::as_str).collect());
    }
}

/// References to entries that do not exist, or not in the same project.
fn find_dangling(tables: &Tables, faults: &mut Vec<String>) {
    let has_project = |id: &str| tables.projects.iter().any(|project| project.id == id);
    let has_instance = |id: &str, project: &str| {
        tables.instances.iter().any(|instance| instance.id == id && instance.project == project)
    };
    let mut in_project = |table: &str, name: &str, project: &str| {
        if !has_project(project) {
            faults.push(format!("{table} {name} is in project {project}, which does not exist"));
        }
    };
    for user in &tables.users {
        for project in &user.projects {
            in_project("user", &user.name, project);
        }
    }
    for instance in &tables.instances {
        in_project("instance", &instance.id, &instance.project);
    }
    for certificate in &tables.certificates {
        in_project("certificate", &certificate.id, &certificate.project);
    }
    for domain in &tables.domains {
        in_project("domain", &domain.name, &domain.project);
    }

    for token in &tables.tokens {
        match tables.users.iter().find(|user| user.name == token.user) {
            None => faults.push(format!("token {} is of user {}, who does not exist", token.value, token.user)),
            Some(user) if !user.projects.contains(&token.project) => faults.push(format!(
                "token {} is for project {}, which user {} does not have",
                token.value, token.project, token.user
            )),
            Some(_) => {}
        }
    }
    let has_user = |name: &str| tables.users.iter().any(|user| user.name == name);
    for key in tables.keys.iter().filter(|key| !has_user(&key.user)) {
        faults.push(format!("access key {} is of user {}, who does not exist", key.access, key.user));
    }
    for workload in tables.workloads.iter().filter(|workload| !has_user(workload.user())) {
        faults.push(format!("a workload has the rights of user {}, who does not exist", workload.user()));
    }
    for certificate in &tables.certificates {
        if let Some(instance) = &certificate.instance
            && !has_instance(instance, &certificate.project)
        {
            faults.push(format!(
                "certificate {} is for instance {instance}, which its project does not have",
                certificate.id
            ));
        }
    }
    for domain in &tables.domains {
        for instance in &domain.instances {
            if !has_instance(instance, &domain.project) {
                faults
                    .push(format!("domain {} is on instance {instance}, which its project does not have", domain.name));
            }
        }
    }
    for fault in &tables.faults {
        if !tables.certificates.iter().any(|certificate| certificate.id == fault.certificate) {
            faults.push(format!("a fault is of certificate {}, which does not exist", fault.certificate));
        }
    }
}

/// Entries that no request can use.
fn find_unusable(tables: &Tables, faults: &mut Vec<String>) {
    for token in &tables.tokens {
        if token.value.is_empty() || !token.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            faults.push(format!("token {:?} does not fit into a header", token.value));
        }
    }
    if tables.workloads.iter().filter(|workload| matches!(workload, Workload::Machine { .. })).count() > 1 {
        faults.push("only one workload of kind machine is allowed".to_owned());
    }
    for domain in &tables.domains {
        if !domain_name::is_valid(&domain.name) {
            faults.push(format!("domain {:?} matches neither documented pattern", domain.name));
        }
        if domain.instances.is_empty() {
            faults.push(format!("domain {} is on no instance", domain.name));
        }
    }
}
