//! What every operation shares: the network, the settings, and the registries that answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use reqwest::{Method, StatusCode, header::LINK};
use serde::Deserialize;
use strata_spec::Reference;
use tokio::sync::OnceCell;

use crate::{
    Error, Settings,
    auth::pull_scope,
    endpoint::{Direction, Endpoint, endpoints},
    http::{Call, Remote, failure, read_all},
    mappings::Mappings,
    net::Net,
};

/// Bytes of one page of a list of tags.
const PAGE_MAX: u64 = 4 << 20;
/// Tags of one repository.
const TAGS_MAX: usize = 1 << 16;

/// The places to ask, by domain and whether they are for pushing.
type Known = HashMap<(String, bool), Vec<Arc<Site>>>;

/// One place that may answer for a domain. Whether and where it does is found out when it is first asked.
pub(crate) struct Site {
    endpoint: Endpoint,
    settings: Settings,
    remote: OnceCell<Arc<Remote>>,
}

impl Site {
    /// The registry at this place. One that does not answer is looked for again the next time.
    pub async fn remote(&self) -> Result<Arc<Remote>, Error> {
        let connect = || async { Ok(Arc::new(Remote::connect(&self.endpoint, &self.settings).await?)) };
        self.remote.get_or_try_init(connect).await.cloned()
    }

    pub fn host(&self) -> &str {
        &self.endpoint.host
    }
}

/// A client of registries.
pub struct Client {
    pub(crate) net: Net,
    pub(crate) settings: Settings,
    sites: Mutex<Known>,
}

/// Where images come from and go to on this machine.
pub struct Stores<'a> {
    pub images: &'a strata_image::Store,
    pub mappings: Mappings,
    /// `strata/content`: blobs as they arrive, and what is kept to be pushed as it was served.
    pub content: strata_content::Store,
}

impl Client {
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self { net: Net::new()?, settings, sites: Mutex::default() })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The places to ask for what lies under `domain`, in this order; there is at least one.
    pub(crate) fn sites(&self, domain: &str, direction: Direction) -> Result<Vec<Arc<Site>>, Error> {
        let key = (domain.to_owned(), direction == Direction::Push);
        let mut known = self.sites.lock().expect("nothing panics while it holds this");
        if let Some(sites) = known.get(&key) {
            return Ok(sites.clone());
        }
        let of = |endpoint| Arc::new(Site { endpoint, settings: self.settings.clone(), remote: OnceCell::new() });
        let sites: Vec<_> = endpoints(domain, direction, &self.settings)?.into_iter().map(of).collect();
        known.insert(key, sites.clone());
        Ok(sites)
    }

    /// The registry itself, no mirror of it.
    pub(crate) fn registry(&self, domain: &str) -> Result<Arc<Remote>, Error> {
        let sites = self.sites(domain, Direction::Push)?;
        self.net.wait(sites[0].remote())
    }

    /// All tags of a repository, in the registry's order.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<String>, Error> {
        let registry = self.registry(repository.domain())?;
        self.net.wait(tags(&registry, repository))
    }
}

async fn tags(remote: &Remote, repository: &Reference) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let mut all = Vec::new();
    let mut url = remote.url(&format!("v2/{}/tags/list", repository.path()));
    loop {
        let response = remote.send(Call::new(Method::GET, url.clone(), &pull_scope(repository.path()))).await?;
        if response.status() != StatusCode::OK {
            return Err(match failure(response).await {
                Error::Status { status: 404, message, .. } => {
                    Error::NotFound { reference: repository.familiar_name(), message }
                }
                error => error,
            });
        }
        let next = response.headers().get(LINK).and_then(|link| link.to_str().ok()).and_then(next_page);
        let object = format!("the tags of {}", repository.familiar_name());
        let body = read_all(response, PAGE_MAX, &object).await?;
        let page: Page = serde_json::from_slice(&body).map_err(|error| Error::invalid(&object, error.to_string()))?;
        let page = page.tags.unwrap_or_default();
        let brought = page.len();
        all.extend(page);
        if all.len() > TAGS_MAX {
            return Err(Error::invalid(&object, format!("are more than {TAGS_MAX}")));
        }
        let Some(next) = next.filter(|_| brought > 0) else { return Ok(all) };
        let to = url.join(&next).ok().filter(|to| to.origin() == url.origin());
        url = to.ok_or_else(|| Error::invalid(&object, "lead to another host"))?;
    }
}

/// Where a `Link` header says that the list goes on: `<path>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lead_on() {
        assert_eq!(next_page(r#"</v2/a/tags/list?last=x&n=2>; rel="next""#).unwrap(), "/v2/a/tags/list?last=x&n=2");
        assert_eq!(next_page(r#"</x>; rel="prev", </y>; rel=next"#).unwrap(), "/y");
        assert_eq!(next_page("nonsense"), None);
    }
}
