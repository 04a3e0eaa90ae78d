import io.fabric8.kubernetes.api.model.HasMetadata;
import io.fabric8.kubernetes.api.model.authentication.SelfSubjectReview;
import io.fabric8.kubernetes.api.model.authentication.SelfSubjectReviewBuilder;
import io.fabric8.kubernetes.api.model.authentication.UserInfo;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.utils.KubernetesSerialization;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The Java client of fabric8, set up by its own automatic configuration. */
public final class Client {
  private static void look(Map<String, Object> seen) {
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      seen.put("host", client.getMasterUrl().toString());
      SelfSubjectReview asked = new SelfSubjectReviewBuilder().build();
      UserInfo who = client.resource(asked).create().getStatus().getUserInfo();
      seen.put("namespace", client.getNamespace());
      seen.put("username", who.getUsername());
      seen.put("extra", who.getExtra());
      List<? extends HasMetadata> pods = client.pods().list().getItems();
      seen.put("pods", pods.stream().map(pod -> pod.getMetadata().getName()).sorted().toList());
    }
  }

  /** An error with all its causes: the innermost one names the problem. */
  private static String describe(Throwable error) {
    return error.getCause() == null ? error.toString() : error + ": " + describe(error.getCause());
  }

  public static void main(String[] arguments) {
    Map<String, Object> seen = new LinkedHashMap<>();
    seen.put("client", "fabric8");
    seen.put("host", null);
    seen.put("namespace", null);
    seen.put("username", null);
    seen.put("extra", Map.of());
    seen.put("pods", List.of());
    seen.put("error", null);
    try {
      look(seen);
    } catch (RuntimeException error) {
      seen.put("error", describe(error));
    }
    System.out.println(new KubernetesSerialization().asJson(seen));
    System.exit(seen.get("error") == null ? 0 : 1);
  }
}
