//! The changeable resources: certificates and their bindings, in memory and optionally in a file.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::binding::Bindings;
use super::certificate::Certificate;
use super::world::World;

mod file;

/// The certificates and bindings at one moment.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// In the order of the world, then of their creation.
    pub(super) certificates: Vec<Certificate>,
    pub(super) bindings: Bindings,
}

/// The current state, and the file that keeps it.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<State>,
    path: Option<PathBuf>,
}

/// The content of the file: the difference to the world, and the bindings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// Certificates that were created or updated.
    changed: Vec<Certificate>,
    /// The ids of deleted certificates of the world.
    deleted: BTreeSet<String>,
    bindings: Bindings,
}

impl State {
    /// The state of a world before any change.
    fn of(world: &World) -> Self {
        Self { certificates: world.certificates().map(Certificate::of).collect(), bindings: Bindings::default() }
    }

    /// A certificate of a project.
    ///
    /// # Errors
    ///
    /// The project has no such certificate. Two codes are documented for that; the choice is ours.
    pub(super) fn certificate(&self, project: &str, id: &str) -> Result<&Certificate, Refusal> {
        let found = self.certificates.iter().find(|certificate| certificate.id == id && certificate.project == project);
        found.ok_or_else(|| Refusal::service(StatusCode::NOT_FOUND, "APIG.3025", "The certificate does not exist."))
    }

    fn save(&self, world: &World) -> Saved {
        let originals: Vec<Certificate> = world.certificates().map(Certificate::of).collect();
        let is_there = |id: &str| self.certificates.iter().any(|certificate| certificate.id == id);
        Saved {
            changed: self.certificates.iter().filter(|one| !originals.contains(one)).cloned().collect(),
            deleted: originals.into_iter().map(|original| original.id).filter(|id| !is_there(id)).collect(),
            bindings: self.bindings.clone(),
        }
    }

    /// The state of a world with the saved changes.
    ///
    /// # Errors
    ///
    /// The changes do not fit the world: the first misfit.
    fn restore(world: &World, saved: Saved) -> Result<Self, String> {
        let mut state = Self::of(world);
        let mut seen = HashSet::new();
        for certificate in saved.changed {
            let id = &certificate.id;
            if !seen.insert(id.clone()) {
                return Err(format!("certificate id {id} is given more than once"));
            }
            if world.project(&certificate.project).is_none() {
                return Err(format!("certificate {id} is in project {}, which does not exist", certificate.project));
            }
            if let Some(instance) = &certificate.instance
                && !world.has_instance(&certificate.project, instance)
            {
                return Err(format!("certificate {id} is for instance {instance}, which its project does not have"));
            }
            match state.certificates.iter_mut().find(|known| known.id == *id) {
                Some(known) => *known = certificate,
                None => state.certificates.push(certificate),
            }
        }
        state.certificates.retain(|certificate| !saved.deleted.contains(&certificate.id));
        for (domain, instance, certificate) in saved.bindings.rows() {
            let project = state.certificates.iter().find(|known| known.id == certificate).map(|known| &known.project);
            let project =
                project.ok_or_else(|| format!("a binding is of certificate {certificate}, which does not exist"))?;
            let known = world.domains(project).find(|known| known.id == domain);
            if !known.is_some_and(|known| known.instances.iter().any(|known| known == instance)) {
                return Err(format!(
                    "a binding is of domain {domain} on instance {instance}, which does not exist there"
                ));
            }
        }
        state.bindings = saved.bindings;
        Ok(state)
    }
}

impl Store {
    /// The state of a world, in memory alone.
    pub(super) fn of(world: &World) -> Self {
        Self { state: Mutex::new(State::of(world)), path: None }
    }

    /// The state that a file keeps; without the file, the world's. Reads it now and writes it after each change.
    ///
    /// # Errors
    ///
    /// The file can't be read, is malformed, or does not fit the world. The error names the file.
    pub(super) fn in_file(world: &World, path: &Path) -> io::Result<Self> {
        let named = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
        let state = match file::read(path) {
            Ok(None) => State::of(world),
            Ok(Some(bytes)) => serde_json::from_slice::<Saved>(&bytes)
                .map_err(|fault| fault.to_string())
                .and_then(|saved| State::restore(world, saved))
                .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, named(&fault)))?,
            Err(fault) => return Err(io::Error::new(fault.kind(), named(&fault))),
        };
        Ok(Self { state: Mutex::new(state), path: Some(path.to_owned()) })
    }

    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the state half updated: each change replaces it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change and keeps it. The write to the file blocks the thread: the next reader must not see the state
    /// before it is kept, and an emulator has no other load.
    ///
    /// # Errors
    ///
    /// The change is refused, or the file can't be written: nothing changes. Code and text of the latter are the
    /// documented ones of an unclassified fault.
    pub(super) fn change<T>(
        &self,
        world: &World,
        make: impl FnOnce(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut state = self.read();
        let mut next = state.clone();
        let done = make(&mut next)?;
        if let Some(path) = &self.path {
            let text = serde_json::to_vec_pretty(&next.save(world)).expect("every key is a string");
            if let Err(fault) = file::replace(path, &text) {
                tracing::error!(path = %path.display(), error = %fault, "can't write the state file");
                return Err(Refusal::service(StatusCode::INTERNAL_SERVER_ERROR, "APIG.9999", "System error."));
            }
        }
        *state = next;
        Ok(done)
    }
}
