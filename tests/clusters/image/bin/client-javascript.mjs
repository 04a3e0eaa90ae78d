#!/usr/bin/node
// The JavaScript client `@kubernetes/client-node`, set up by its own in-cluster loader.
import { createRequire } from "node:module";

const load = createRequire("/opt/clients/package.json");
const seen = {
  client: "javascript", host: null, namespace: null, username: null, extra: {}, pods: [], error: null,
};
try {
  const k8s = await import(load.resolve("@kubernetes/client-node"));
  const config = new k8s.KubeConfig();
  config.loadFromCluster();
  seen.host = config.getCurrentCluster().server;
  seen.namespace = config.getContextObject(config.getCurrentContext()).namespace ?? null;
  const review = await config
    .makeApiClient(k8s.AuthenticationV1Api)
    .createSelfSubjectReview({
      body: { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" },
    });
  seen.username = review.status.userInfo.username;
  seen.extra = review.status.userInfo.extra ?? {};
  const pods = await config
    .makeApiClient(k8s.CoreV1Api)
    .listNamespacedPod({ namespace: seen.namespace });
  seen.pods = pods.items.map((pod) => pod.metadata.name).sort();
} catch (error) {
  const cause = error.cause === undefined ? "" : ` (${error.cause})`;
  seen.error = `${error.name}: ${error.message}${cause}`;
}
console.log(JSON.stringify(seen));
process.exitCode = seen.error === null ? 0 : 1;
