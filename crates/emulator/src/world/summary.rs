//! Prints a summary of a world for interactive use. It includes passwords and tokens, which are valid
//! for the emulator only.

use std::fmt;

use super::{Certificate, Project, Workload, World};

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = &self.0;
        for project in &tables.projects {
            self.show_project(project, f)?;
        }
        writeln!(f, "users (no password or token here is a real one)")?;
        for user in &tables.users {
            let may = if user.may_attach { "may attach" } else { "may not attach" };
            writeln!(f, "  {}  password {}, account {}, {may}", user.name, user.password, user.account)?;
        }
        writeln!(f, "access keys")?;
        for key in &tables.keys {
            writeln!(f, "  {}  secret {}, of {}", key.access, key.secret, key.user)?;
        }
        writeln!(f, "temporary keys")?;
        for workload in &tables.workloads {
            show_workload(workload, f)?;
        }
        writeln!(f, "tokens")?;
        for token in &tables.tokens {
            write!(f, "  {}  of {}, for project {}", token.value, token.user, token.project)?;
            if let Some(end) = token.expires_at {
                write!(f, ", until {}", httpdate::fmt_http_date(end))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl World {
    fn show_project(&self, project: &Project, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = &self.0;
        writeln!(f, "project {}  {}", project.id, project.name)?;
        for certificate in tables.certificates.iter().filter(|certificate| certificate.project == project.id) {
            self.show_certificate(certificate, f)?;
        }
        for instance in tables.instances.iter().filter(|instance| instance.project == project.id) {
            writeln!(f, "  instance {}", instance.id)?;
        }
        for domain in self.domains(&project.id) {
            writeln!(f, "  domain {}  on {}", domain.name, domain.instances.join(", "))?;
        }
        Ok(())
    }

    fn show_certificate(&self, certificate: &Certificate, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  certificate {}  {}", certificate.id, certificate.name)?;
        match &certificate.instance {
            Some(instance) => write!(f, ", for instance {instance}")?,
            None => write!(f, ", global")?,
        }
        if certificate.has_trusted_root_ca {
            write!(f, ", with trusted root CA")?;
        }
        if let Some(content) = &certificate.content {
            write!(f, ", until {}", content.summary().not_after)?;
        }
        if let Some(fault) = self.fault(&certificate.id) {
            let done = if fault.processed { ", although it is changed" } else { "" };
            write!(f, ", answers {}{done}", fault.status.as_u16())?;
        }
        writeln!(f)
    }
}

fn show_workload(workload: &Workload, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let user = workload.user();
    match workload {
        Workload::Machine { has_token_step: true, .. } => writeln!(f, "  machine  of {user}"),
        Workload::Machine { has_token_step: false, .. } => writeln!(f, "  machine  of {user}, without the token step"),
        Workload::Container { token, .. } => writeln!(f, "  container  of {user}, token {token}"),
        Workload::Oidc { provider_urn, agency_urn, token, .. } => {
            writeln!(f, "  oidc  of {user}, token {token}, provider {provider_urn}, agency {agency_urn}")
        }
        Workload::Federated { provider, token, .. } => {
            writeln!(f, "  federated  of {user}, token {token}, provider {provider}")
        }
    }
}
