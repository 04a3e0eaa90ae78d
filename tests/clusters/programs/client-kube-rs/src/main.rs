//! kube-rs with its own in-cluster loaders, unchanged: `env` reads the variables (the default of
//! `Config::incluster`), `dns` dials `kubernetes.default.svc` whatever they say.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Pod;
use kube::{api::PostParams, Api, Client, Config};
use serde_json::{json, Value};
use std::error::Error;
use std::process::ExitCode;

async fn look(seen: &mut Value, mode: &str) -> Result<(), Box<dyn Error>> {
    let config = match mode {
        "dns" => Config::incluster_dns()?,
        _ => Config::incluster_env()?,
    };
    seen["host"] = json!(config.cluster_url.to_string());
    let namespace = config.default_namespace.clone();
    seen["namespace"] = json!(namespace);
    let client = Client::try_from(config)?;
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let who = review.status.and_then(|status| status.user_info);
    let who = who.ok_or("the review contains no user")?;
    seen["username"] = json!(who.username);
    seen["extra"] = json!(who.extra);
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut names: Vec<_> = pods
        .list(&Default::default())
        .await?
        .into_iter()
        .filter_map(|pod| pod.metadata.name)
        .collect();
    names.sort();
    seen["pods"] = json!(names);
    Ok(())
}

/// An error with all that caused it: kube-rs tells the reason in the innermost.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_else(|| "env".into());
    let mut seen = json!({
        "client": format!("kube-rs-{mode}"), "host": null, "namespace": null, "username": null,
        "extra": {}, "pods": [], "error": null,
    });
    let result = look(&mut seen, &mode).await;
    if let Err(error) = &result {
        seen["error"] = json!(told(error.as_ref()));
    }
    println!("{seen}");
    ExitCode::from(u8::from(result.is_err()))
}
