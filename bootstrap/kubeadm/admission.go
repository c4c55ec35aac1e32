package kubeadm

import (
	_ "embed" // the rules
	"fmt"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Admission rules that are files: the API server reads AdmissionFile at start, which points at the folder of the rules; it
// looks at the folder every minute or so, and a changed rule needs no restart.
const (
	AdmissionFile      = "/etc/kubernetes/admission/config.yaml"
	AdmissionManifests = "/etc/kubernetes/admission/manifests"
	AdmissionGuardFile = AdmissionManifests + "/platform.yaml"
)

// staticAdmissionSince is the first minor of Kubernetes 1 where rules from files are on without a feature gate.
const staticAdmissionSince = 37

// HasStaticAdmission says whether API servers of a version (without v) read rules from files. Others refuse to start with the
// configuration.
func HasStaticAdmission(version string) bool {
	var minor int
	_, err := fmt.Sscanf(version, "1.%d.", &minor)
	return err == nil && minor >= staticAdmissionSince
}

// AdmissionConfiguration makes the API server read rules from AdmissionManifests. Everything that it does not name stays as it is.
func AdmissionConfiguration() string {
	return fmt.Sprintf(`# written by catamaran
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ValidatingAdmissionPolicy
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ValidatingAdmissionPolicyConfiguration
    staticManifestsDir: %s
`, AdmissionManifests)
}

//go:embed admission/platform.yaml
var admissionGuard string

// guardedNamespaces are the platform's on both clusters. Those that write in their own namespace (cert-manager, Velero,
// local-path) are not among them.
func guardedNamespaces() []string {
	return []string{
		"alertmanager", "falco", "fluentd", "gatekeeper-system", "grafana", "ingest-gateway", "kube-state-metrics", "loki", "node-exporter",
		"prometheus", "prometheus-agent", "thanos", "trivy", "versitygw",
	}
}

// guardControllers are the service accounts of the controller manager's parts that write in namespaces.
func guardControllers() []string {
	return []string{
		"attachdetach-controller", "cronjob-controller", "daemon-set-controller", "deployment-controller", "disruption-controller",
		"endpoint-controller", "endpointslice-controller", "endpointslicemirroring-controller", "ephemeral-volume-controller",
		"generic-garbage-collector", "job-controller", "namespace-controller", "node-controller", "persistent-volume-binder",
		"pod-garbage-collector", "pv-protection-controller", "pvc-protection-controller", "replicaset-controller", "replication-controller",
		"resourcequota-controller", "root-ca-cert-publisher", "service-account-controller", "service-controller", "statefulset-controller",
		"taint-eviction-controller", "ttl-after-finished-controller", "validatingadmissionpolicy-status-controller",
	}
}

// Gatekeeper is the component whose rules are guarded, and without which nothing is.
const Gatekeeper = "gatekeeper"

// Guarded says whether a cluster's API servers have the rules: its Kubernetes takes some from files, and Gatekeeper is installed.
func Guarded(inv *inventory.Inventory, cluster *inventory.Cluster) bool {
	on := inv.Platform.On()
	if given := inv.Components[Gatekeeper].Enabled; given != nil {
		on = *given
	}
	return on && HasStaticAdmission(cluster.VersionOr(inv))
}

// AdmissionGuard are the rules that guard the platform, a YAML stream in the form that the folder takes. The webhook of
// Gatekeeper may leave out the namespaces that the inventory exempts, and no others.
func AdmissionGuard(inv *inventory.Inventory) string {
	exempt := []string{"kube-system", "gatekeeper-system"}
	if more, ok := inv.Components[Gatekeeper].Values["exemptNamespaces"].([]any); ok {
		for _, name := range more {
			exempt = append(exempt, fmt.Sprint(name))
		}
	}
	return strings.NewReplacer(
		"NAMESPACES", strings.Join(guardedNamespaces(), ", "), "CONTROLLERS", quoted(guardControllers()), "EXEMPT", quoted(exempt),
	).Replace(admissionGuard)
}

func quoted(words []string) string { return `"` + strings.Join(words, `", "`) + `"` }
