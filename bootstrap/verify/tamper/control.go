package tamper

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// controlMetric is written with credentials of the service cluster, on purpose.
const controlMetric = "catamaran_verify_control"

// controls are what a credential of the service cluster must be able to do, by the same way as the attempts: read, and change
// or delete something that was made for it. One that works shows that the attempts would have worked too.
func controls() map[Role][]Request {
	bucket := "/catamaran-control-{run}"
	return map[Role][]Request{
		Loki: {
			{Name: "read labels", Method: get, Path: "/loki/api/v1/labels", Header: as("catamaran-control")},
			{Name: "push into a tenant made for it", Method: post, Path: "/loki/api/v1/push", Header: as("catamaran-control"), Body: `{"streams":[{"stream":{"source":"control"},"values":[["{ns}","{run}"]]}]}`},
		},
		ThanosReceive: {{Name: "write a sample", Method: post, Path: "/api/v1/receive", Header: thanosTenant("service"), Write: sample(controlMetric, 1, 0)}},
		ThanosWeb:     {{Name: "query", Method: get, Path: "/api/v1/query?query=up"}},
		ThanosGRPC:    {{Name: "store's info", Send: grpcCall("/thanos.info.Info/Info", nil)}},
		Prometheus:    {{Name: "query", Method: get, Path: "/api/v1/query?query=up"}},
		Alertmanager:  {{Name: "make a silence and delete it", Send: silenceAndDelete}},
		S3: {
			{Name: "make a bucket", Method: put, Path: bucket},
			{Name: "put an object", Method: put, Path: bucket + "/marker", Body: "first"},
			{Name: "overwrite it", Method: put, Path: bucket + "/marker", Body: "second"},
			{Name: "delete it", Method: del, Path: bucket + "/marker"},
			{Name: "delete the bucket", Method: del, Path: bucket},
		},
		GatewayMetrics: {{Name: "metrics", Method: get, Path: "/metrics"}},
		Grafana:        {{Name: "data sources", Method: get, Path: "/api/datasources"}},
		KubeAPI:        {{Name: "list pods", Method: get, Path: "/api/v1/pods?limit=1"}},
		Etcd:           {{Name: "status", Send: grpcCall("/etcdserverpb.Maintenance/Status", nil)}},
		Kubelet:        {{Name: "pods", Method: get, Path: "/pods"}},
	}
}

// control carries the controls out at one endpoint of each role that answers.
func (a *attack) control(ctx context.Context) {
	reached := map[Role]bool{}
	for _, t := range a.attempts {
		if t.Outcome != Unreachable {
			reached[t.Role] = true
		}
	}
	t := verify.Table{
		Title: "Control: the same with credentials of the service cluster", Note: "Each must work, on things made for it, by the same way as the attempts. Otherwise a refusal there proves nothing.",
		Columns: []string{"what", "credential", "outcome"},
	}
	table := controls()
	for _, role := range []Role{Loki, ThanosReceive, ThanosWeb, ThanosGRPC, Prometheus, Alertmanager, Grafana, S3, GatewayMetrics, KubeAPI, Kubelet, Etcd} {
		if !reached[role] {
			if a.has(role) {
				a.note(string(role), "it can not be reached from the workload cluster at all: the network refuses, so its credentials were not put to the test")
			}
			continue
		}
		who, why := a.controlRole(ctx, role, table[role])
		outcome := "works"
		if who == "" {
			outcome = "does not work: " + why
			a.unknown(string(role), "not even a credential of the service cluster worked there, so that everything was refused proves nothing: "+why)
		}
		t.Rows = append(t.Rows, []string{string(role), who, outcome})
	}
	a.doc.Tables = append(a.doc.Tables, t)
}

func (a *attack) has(role Role) bool {
	for _, t := range a.targets {
		if t.Role == role && !t.guess {
			return true
		}
	}
	return false
}

// controlRole returns the first credential with which everything worked, or why none did.
func (a *attack) controlRole(ctx context.Context, role Role, list []Request) (who, why string) {
	var tried []string
	for _, t := range a.targets {
		if t.Role != role {
			continue
		}
		for _, c := range a.Control {
			if !uses(role, c.Kind) {
				continue
			}
			failed := a.controlPair(ctx, a.session(t, Credential{Credential: c}), list)
			if failed == "" {
				return fmt.Sprintf("%s %s", c.Kind, strings.Join(c.Places, ", ")), ""
			}
			if len(tried) < 3 {
				tried = append(tried, failed)
			}
		}
	}
	if len(tried) == 0 {
		return "", "there is none to try"
	}
	return "", strings.Join(tried, "; ")
}

func (a *attack) controlPair(ctx context.Context, s *session, list []Request) string {
	defer s.close()
	for _, r := range list {
		if res := s.try(ctx, r); res.outcome != Succeeded {
			return fmt.Sprintf("%s at %s: %s (%s)", r.Name, s.target.Address, res.outcome, sameAs(res.detail, 100))
		}
	}
	return ""
}

// silenceAndDelete makes a silence for an alert that there is not, and takes it away.
func silenceAndDelete(ctx context.Context, s *session) result {
	made := s.try(ctx, Request{Method: post, Path: "/api/v2/silences", Header: typed(jsonType), Body: silence("{run}-control")})
	if made.outcome != Succeeded {
		return made
	}
	var answer struct {
		ID string `json:"silenceID"`
	}
	if err := json.Unmarshal(made.body, &answer); err != nil || answer.ID == "" {
		return result{outcome: Unclear, detail: "Alertmanager does not tell the silence's ID"}
	}
	return s.try(ctx, Request{Method: http.MethodDelete, Path: "/api/v2/silence/" + answer.ID})
}
