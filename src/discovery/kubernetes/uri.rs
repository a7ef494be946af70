//! A cluster from a line of configuration.

use super::Kubernetes;
use crate::model::name::Boundary;
use crate::runtime::text::excerpt;

/// What follows the scheme: nothing, or `?namespace=shop`. An error says what is wrong with it.
pub(in crate::discovery) fn parse(rest: &str) -> Result<Kubernetes, String> {
    let mut kubernetes = Kubernetes::new();
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    if rest.is_empty() {
        return Ok(kubernetes);
    }
    let Some(parameters) = rest.strip_prefix('?') else {
        let rest = excerpt(rest);
        return Err(format!("\"{rest}\" has no meaning there"));
    };
    for parameter in parameters.split('&') {
        kubernetes = match parameter.split_once('=') {
            Some(("namespace", name)) => kubernetes
                .namespace(Boundary::new(name).map_err(|error| format!("namespace: {error}"))?),
            _ => return Err(format!("unknown parameter \"{}\"", excerpt(parameter))),
        };
    }
    Ok(kubernetes)
}
