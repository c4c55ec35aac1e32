package build

import (
	"context"
	"fmt"
	"os/exec"
)

// Versions of the compliance platform's parts, which do not follow Kubernetes.
const (
	alertmanagerVersion     = "0.34.2"
	falcoVersion            = "0.45.0" // of the image whose name the stand-in carries
	fluentdVersion          = "1.19.3" // likewise
	gatekeeperVersion       = "3.23.1"
	ingestGatewayVersion    = "0.1.0" // ours
	kubeStateMetricsVersion = "2.20.0"
	lokiVersion             = "3.7.8"
	nodeExporterVersion     = "1.12.1"
	podImagesVersion        = "0.1.0" // ours
	prometheusVersion       = "3.13.5"
	prometheusModule        = "0.313.5" // Prometheus counts its modules so: v0.3MM.P is 3.MM.P
	thanosVersion           = "0.42.5"
	trivyVersion            = "0.74.0"
	trivyDBVersion          = "1" // of the lab's own database
	versitygwVersion        = "1.8.0"
)

// platformComponents lists what a lab with the compliance platform needs on top of a release, the slowest first.
func platformComponents() []component {
	return []component{
		{
			name: "loki", dir: "modules/loki", module: "github.com/grafana/loki/v3", version: lokiVersion,
			tags:     []string{"netgo"},
			ldflags:  stamp("github.com/grafana/loki/v3/pkg/util/build", lokiVersion),
			programs: []program{{"loki", "github.com/grafana/loki/v3/cmd/loki"}},
		},
		{
			name: "prometheus", dir: "modules/prometheus", module: "github.com/prometheus/prometheus", version: prometheusVersion,
			moduleVersion: prometheusModule,
			// It finds targets in two dozen clouds unless it is told which ways are wanted. Upstream's tag builtinassets is
			// not here: the module comes without its web pages.
			tags:    []string{"netgo", "remove_all_sd", "enable_kubernetes_sd", "enable_dns_sd"},
			ldflags: stamp(prometheusCommon, prometheusVersion),
			programs: []program{
				{"prometheus", "github.com/prometheus/prometheus/cmd/prometheus"},
				{"promtool", "github.com/prometheus/prometheus/cmd/promtool"},
			},
		},
		{
			name: "gatekeeper", dir: "modules/gatekeeper", module: gatekeeperModule, version: gatekeeperVersion,
			ldflags:  []string{"-X " + gatekeeperModule + "/pkg/version.Version=v" + gatekeeperVersion},
			programs: []program{{"gatekeeper", gatekeeperModule}, {"gator", gatekeeperModule + "/cmd/gator"}},
		},
		{
			name: "thanos", dir: "modules/thanos", module: "github.com/thanos-io/thanos", version: thanosVersion,
			// Without slicelabels it compiles and starts, and panics on the first write.
			tags:     []string{"netgo", "slicelabels"},
			ldflags:  stamp(prometheusCommon, thanosVersion),
			programs: []program{{"thanos", "github.com/thanos-io/thanos/cmd/thanos"}},
		},
		{
			name: "trivy", dir: "modules/trivy", module: "github.com/aquasecurity/trivy", version: trivyVersion, experiment: "jsonv2",
			ldflags:  []string{"-X github.com/aquasecurity/trivy/pkg/version/app.ver=" + trivyVersion},
			programs: []program{{"trivy", "github.com/aquasecurity/trivy/cmd/trivy"}},
		},
		{
			name: "versitygw", dir: "modules/versitygw", module: "github.com/versity/versitygw", version: versitygwVersion,
			ldflags: []string{"-X main.Version=v" + versitygwVersion, "-X main.Build=" + fixedCommit()[:7], "-X main.BuildTime=" + fixedDate},
			programs: []program{
				{"versitygw", "github.com/versity/versitygw/cmd/versitygw"},
			},
		},
		{
			name: "alertmanager", dir: "modules/alertmanager", module: "github.com/prometheus/alertmanager", version: alertmanagerVersion,
			tags: []string{"netgo"}, ldflags: stamp(prometheusCommon, alertmanagerVersion),
			// The module comes without its web pages, which upstream compiles from Elm; Go wants the folder to be there.
			added: map[string]string{"ui/app/dist/README.txt": "This build has no web pages: use the API or amtool.\n"},
			programs: []program{
				{"alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager"},
				{"amtool", "github.com/prometheus/alertmanager/cmd/amtool"},
			},
		},
		{
			name: "kube-state-metrics", dir: "modules/kube-state-metrics", module: "k8s.io/kube-state-metrics/v2", version: kubeStateMetricsVersion,
			ldflags:  stamp(prometheusCommon, "v"+kubeStateMetricsVersion),
			programs: []program{{"kube-state-metrics", "k8s.io/kube-state-metrics/v2"}},
		},
		{
			name: "node-exporter", dir: "modules/node-exporter", module: "github.com/prometheus/node_exporter", version: nodeExporterVersion,
			ldflags:  stamp(prometheusCommon, nodeExporterVersion),
			programs: []program{{"node_exporter", "github.com/prometheus/node_exporter"}},
		},
		{
			name: "ingest-gateway", repository: true, version: ingestGatewayVersion,
			ldflags:  []string{"-X main.version=v" + ingestGatewayVersion},
			programs: []program{{"ingest-gateway", repositoryModule + "/cmd/ingest-gateway"}},
		},
		{
			name: "pod-images", repository: true, version: podImagesVersion,
			programs: []program{{"pod-images", repositoryModule + "/cmd/pod-images"}},
		},
		{
			name: "fluentd", dir: "standin/fluentd", version: fluentdVersion,
			programs: []program{{"fluentd", "catamaran.test/lab/fluentd"}},
		},
		{
			name: "trivy-db", dir: "standin/trivy-db", version: trivyDBVersion,
			programs: []program{{"trivy-db", "catamaran.test/lab/trivy-db"}},
		},
		{
			name: "falco", dir: "standin/falco", version: falcoVersion,
			programs: []program{{"falco", "catamaran.test/lab/falco"}},
		},
	}
}

const (
	gatekeeperModule = "github.com/open-policy-agent/gatekeeper/v3"
	prometheusCommon = "github.com/prometheus/common/version"
	repositoryModule = "github.com/catamaran-k8s/catamaran"
)

// stamp sets the variables that programs of Prometheus's family show with --version and in NAME_build_info. All but the
// version are fixed, so that a build is reproducible.
func stamp(pkg, version string) []string {
	var out []string
	for _, v := range [][2]string{
		{"Version", version}, {"Revision", fixedCommit()}, {"Branch", "HEAD"}, {"BuildUser", "catamaran-lab"}, {"BuildDate", fixedDate},
	} {
		out = append(out, fmt.Sprintf("-X %s.%s=%s", pkg, v[0], v[1]))
	}
	return out
}

// TrivyDatabase is the image of the lab's own database of vulnerabilities, for components.NAME.values.database.image. Trivy's is
// not one that a runtime could mount: upstream's is an artifact.
const TrivyDatabase = "catamaran.test/lab/trivy-db:" + trivyDBVersion

// trivyDB is what the image of the database holds.
func (b *builder) trivyDB(ctx context.Context, p Program) ([]item, error) {
	dir, _, err := b.store.entry(ctx, "trivy-db/"+p.Version, newKey(p.Digest), func(dir string) error {
		return run(ctx, exec.CommandContext(ctx, p.Path, dir))
	})
	if err != nil {
		return nil, err
	}
	return tree(dir)
}

// platformRecipes are the platform's images: programs, entry point, user and, where it has one, shell are where
// upstream's image has them. Its default configuration is not: a chart brings what it uses.
func platformRecipes() []recipe {
	return []recipe{
		{
			ref: "quay.io/prometheus/node-exporter:v" + nodeExporterVersion, under: []string{shellLayer},
			programs: map[string]string{"bin/node_exporter": "node_exporter"}, entrypoint: []string{"/bin/node_exporter"}, user: "nobody",
		},
		{
			ref:        "registry.k8s.io/kube-state-metrics/kube-state-metrics:v" + kubeStateMetricsVersion,
			programs:   map[string]string{"kube-state-metrics": "kube-state-metrics"},
			entrypoint: []string{"/kube-state-metrics", "--port=8080", "--telemetry-port=8081"}, user: "nobody",
		},
		{
			ref:      "docker.io/openpolicyagent/gatekeeper:v" + gatekeeperVersion,
			programs: map[string]string{"manager": "gatekeeper"}, entrypoint: []string{"/manager"}, user: "65532:65532",
		},
		{
			// upstream's entry point is a script that runs the program with the arguments that it is given
			ref: "docker.io/versity/versitygw:v" + versitygwVersion, under: []string{shellLayer},
			programs: map[string]string{"usr/local/bin/versitygw": "versitygw"}, entrypoint: []string{"/usr/local/bin/versitygw"},
		},
		{
			ref:      "docker.io/grafana/loki:" + lokiVersion,
			programs: map[string]string{"usr/bin/loki": "loki"}, entrypoint: []string{"/usr/bin/loki"},
			command: []string{"-config.file=/etc/loki/local-config.yaml"}, user: "10001",
		},
		{
			ref: "quay.io/thanos/thanos:v" + thanosVersion, under: []string{shellLayer},
			programs: map[string]string{"bin/thanos": "thanos"}, entrypoint: []string{"/bin/thanos"}, user: "1001",
		},
		{
			ref: "quay.io/prometheus/alertmanager:v" + alertmanagerVersion, under: []string{shellLayer},
			programs:   map[string]string{"bin/alertmanager": "alertmanager", "bin/amtool": "amtool"},
			entrypoint: []string{"/bin/alertmanager"}, user: "nobody",
			command: []string{"--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"},
		},
		{
			ref: "docker.io/prom/prometheus:v" + prometheusVersion, under: []string{shellLayer},
			programs:   map[string]string{"bin/prometheus": "prometheus", "bin/promtool": "promtool"},
			entrypoint: []string{"/bin/prometheus"}, user: "nobody",
			command: []string{"--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"},
		},
		{
			ref: "ghcr.io/aquasecurity/trivy:" + trivyVersion, under: []string{shellLayer},
			programs: map[string]string{"usr/local/bin/trivy": "trivy"}, entrypoint: []string{"trivy"},
		},
		{ref: TrivyDatabase, under: []string{trivyDBLayer}},
		{
			ref:      "ghcr.io/catamaran-k8s/ingest-gateway:v" + ingestGatewayVersion,
			programs: map[string]string{"ingest-gateway": "ingest-gateway"}, entrypoint: []string{"/ingest-gateway"}, user: "65532:65532",
		},
		{
			ref:      "ghcr.io/catamaran-k8s/pod-images:v" + podImagesVersion,
			programs: map[string]string{"pod-images": "pod-images"}, entrypoint: []string{"/pod-images"}, user: "65532:65532",
		},
		{
			// upstream's entry point is a script that finds the configuration, as the stand-in does
			ref: "docker.io/fluent/fluentd-kubernetes-daemonset:v" + fluentdVersion + "-debian-forward-1.0", under: []string{shellLayer},
			programs: map[string]string{"usr/local/bin/fluentd": "fluentd"}, entrypoint: []string{"fluentd"},
		},
		{
			ref:      "docker.io/falcosecurity/falco:" + falcoVersion,
			programs: map[string]string{"usr/bin/falco": "falco"}, command: []string{"/usr/bin/falco"},
		},
	}
}
