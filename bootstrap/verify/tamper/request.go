package tamper

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Verb says what an attempt is after.
type Verb string

// Verbs.
const (
	Read      Verb = "read"
	Append    Verb = "append"
	Overwrite Verb = "overwrite"
	Delete    Verb = "delete"
	Admin     Verb = "admin"
	Spoof     Verb = "spoof" // append under another name
	Login     Verb = "login"
)

// Expect is what the design promises for the tenant's own certificate. All other credentials are refused everything.
type Expect int

// Expectations.
const (
	Refused Expect = iota
	// Accepted is an append; it is checked afterwards that it is stored as the tenant's.
	Accepted
	// Either may be refused or answered as if it were accepted: what was stored before decides.
	Either
)

// Request is one thing to try at an endpoint. Words in braces in Path, Header and Body are replaced, see vars.
type Request struct {
	Name   string
	Verb   Verb
	Expect Expect
	// Harm says that it would do damage if it worked: it is not sent where something harmless has worked.
	Harm bool
	// Info says that what is read are figures about the part itself, no evidence: if it works it is a note.
	Info bool

	Method, Path string
	Header       map[string]string
	Body         string
	// Write is the body of a remote write; Send replaces HTTP as a whole.
	Write func(vars) []byte
	Send  func(ctx context.Context, s *session) result
}

// vars fill requests.
type vars struct {
	tenant, run, bucket, region string
	// key and version are an evidence object that is there.
	key, version string
	now          time.Time
}

func newVars(tenant, run, bucket string, now time.Time) vars {
	return vars{tenant: tenant, run: run, bucket: bucket, region: "us-east-1", now: now, key: tenant + "/00000000/000000000001.ndjson.zst", version: "none"}
}

// use takes a real object for the attempts that need one.
func (v *vars) use(s snapshot) {
	if s.key != "" {
		v.key, v.version = s.key, s.version
	}
}

func (v vars) fill(text string) string {
	return strings.NewReplacer(
		"{tenant}", v.tenant, "{other}", other, "{run}", v.run, "{bucket}", v.bucket, "{key}", v.key, "{version}", v.version,
		"{from}", v.now.Add(-time.Hour).UTC().Format(time.RFC3339), "{to}", v.now.UTC().Format(time.RFC3339),
		"{soon}", v.now.Add(time.Minute).UTC().Format(time.RFC3339), "{later}", v.now.Add(time.Hour).UTC().Format(time.RFC3339),
		"{ns}", nanoseconds(v.now),
	).Replace(text)
}

const (
	get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	jsonType            = "application/json"
)

func typed(kind string) map[string]string { return map[string]string{"Content-Type": kind} }

// as is a header that names a tenant to Loki.
func as(tenant string) map[string]string {
	return map[string]string{"X-Scope-OrgID": tenant, "Content-Type": jsonType}
}

// requests are what is tried at each role, the harmless ones first.
func requests() map[Role][]Request {
	return map[Role][]Request{
		Loki: {
			{Name: "labels of the tenant", Verb: Read, Method: get, Path: "/loki/api/v1/labels", Header: as("{tenant}")},
			{Name: "the tenant's records", Verb: Read, Method: get, Path: `/loki/api/v1/query_range?query=%7Bsource%3D~%22.%2B%22%7D&limit=5`, Header: as("{tenant}")},
			{Name: "records of several tenants", Verb: Read, Method: get, Path: `/loki/api/v1/query_range?query=%7Bsource%3D~%22.%2B%22%7D&limit=5`, Header: as("{tenant}|{other}")},
			{Name: "configuration", Verb: Read, Method: get, Path: "/config"},
			{Name: "list of deletions", Verb: Read, Method: get, Path: "/loki/api/v1/delete", Header: as("{tenant}")},
			{Name: "push as the tenant", Verb: Spoof, Harm: true, Method: post, Path: "/loki/api/v1/push", Header: as("{tenant}"), Body: `{"streams":[{"stream":{"source":"forged"},"values":[["{ns}","{run} forged"]]}]}`},
			{Name: "push as another tenant", Verb: Spoof, Harm: true, Method: post, Path: "/loki/api/v1/push", Header: as("{other}"), Body: `{"streams":[{"stream":{"source":"forged"},"values":[["{ns}","{run} forged"]]}]}`},
			{Name: "delete the tenant's records", Verb: Delete, Harm: true, Method: post, Path: "/loki/api/v1/delete?query=%7Bsource%3D~%22.%2B%22%7D&start={from}&end={to}", Header: as("{tenant}")},
			{Name: "delete them by PUT", Verb: Delete, Harm: true, Method: put, Path: "/loki/api/v1/delete?query=%7Bsource%3D~%22.%2B%22%7D&start={from}&end={to}", Header: as("{tenant}")},
			{Name: "flush", Verb: Admin, Harm: true, Method: post, Path: "/flush"},
			{Name: "change the log level", Verb: Admin, Harm: true, Method: post, Path: "/log_level?log_level=error"},
			{Name: "shut the ingester down", Verb: Admin, Harm: true, Method: post, Path: "/ingester/shutdown?flush=false&delete_ring_tokens=true&terminate=true"},
		},
		ThanosReceive: {
			{Name: "query", Verb: Read, Method: get, Path: "/api/v1/query?query=up"},
			{Name: "write as the tenant", Verb: Spoof, Harm: true, Method: post, Path: "/api/v1/receive", Header: thanosTenant("{tenant}"), Write: sample("catamaran_verify_forged", 1, 0)},
			{Name: "write as another tenant", Verb: Spoof, Harm: true, Method: post, Path: "/api/v1/receive", Header: thanosTenant("{other}"), Write: sample("catamaran_verify_forged", 1, 0)},
			{Name: "write as the service cluster", Verb: Spoof, Harm: true, Method: post, Path: "/api/v1/receive", Header: thanosTenant("service"), Write: sample("catamaran_verify_forged", 1, 0)},
			{Name: "delete series", Verb: Delete, Harm: true, Method: post, Path: "/api/v1/admin/tsdb/delete_series?match[]=up"},
		},
		ThanosWeb: {
			{Name: "query", Verb: Read, Method: get, Path: "/api/v1/query?query=up"},
			{Name: "series", Verb: Read, Method: get, Path: "/api/v1/series?match[]=up"},
			{Name: "flags", Verb: Read, Method: get, Path: "/api/v1/status/flags"},
			{Name: "metrics", Verb: Read, Method: get, Path: "/metrics"},
			{Name: "delete series", Verb: Delete, Harm: true, Method: post, Path: "/api/v1/admin/tsdb/delete_series?match[]=up"},
			{Name: "mark a block for deletion", Verb: Delete, Harm: true, Method: post, Path: "/api/v1/blocks/mark?id=01JH5Y0ZZZZZZZZZZZZZZZZZZZ&action=DELETION&detail=x"},
			{Name: "reload", Verb: Admin, Harm: true, Method: post, Path: "/-/reload"},
			{Name: "quit", Verb: Admin, Harm: true, Method: post, Path: "/-/quit"},
		},
		ThanosGRPC: {
			{Name: "store's info", Verb: Read, Send: grpcCall("/thanos.info.Info/Info", nil)},
			{Name: "write by gRPC", Verb: Spoof, Harm: true, Send: grpcCall("/thanos.WriteableStore/RemoteWrite", nil)},
		},
		Prometheus: {
			{Name: "query", Verb: Read, Method: get, Path: "/api/v1/query?query=up"},
			{Name: "configuration", Verb: Read, Method: get, Path: "/api/v1/status/config"},
			{Name: "metrics", Verb: Read, Method: get, Path: "/metrics"},
			{Name: "write", Verb: Spoof, Harm: true, Method: post, Path: "/api/v1/write", Write: sample("catamaran_verify_forged", 1, 0)},
			{Name: "delete series", Verb: Delete, Harm: true, Method: post, Path: "/api/v1/admin/tsdb/delete_series?match[]=catamaran_verify_marker"},
			{Name: "clean tombstones", Verb: Delete, Harm: true, Method: post, Path: "/api/v1/admin/tsdb/clean_tombstones"},
			{Name: "reload", Verb: Admin, Harm: true, Method: post, Path: "/-/reload"},
			{Name: "quit", Verb: Admin, Harm: true, Method: post, Path: "/-/quit"},
		},
		Alertmanager: {
			{Name: "alerts", Verb: Read, Method: get, Path: "/api/v2/alerts"},
			{Name: "silences", Verb: Read, Method: get, Path: "/api/v2/silences"},
			{Name: "configuration", Verb: Read, Method: get, Path: "/api/v2/status"},
			{Name: "silence an alert", Verb: Admin, Harm: true, Method: post, Path: "/api/v2/silences", Header: typed(jsonType), Body: silence("{run}")},
			{Name: "invent an alert", Verb: Spoof, Harm: true, Method: post, Path: "/api/v2/alerts", Header: typed(jsonType), Body: `[{"labels":{"alertname":"{run}"},"startsAt":"{to}","endsAt":"{soon}"}]`},
			{Name: "reload", Verb: Admin, Harm: true, Method: post, Path: "/-/reload"},
		},
		Grafana: {
			{Name: "data sources", Verb: Read, Method: get, Path: "/api/datasources"},
			{Name: "who am I", Verb: Login, Method: get, Path: "/api/user"},
			{Name: "query through it", Verb: Read, Method: post, Path: "/api/ds/query", Header: typed(jsonType), Body: `{"queries":[{"refId":"A","datasource":{"uid":"loki"},"expr":"{source=~\".+\"}"}],"from":"now-1h","to":"now"}`},
			{Name: "proxy to Loki", Verb: Read, Method: get, Path: "/api/datasources/proxy/uid/loki/loki/api/v1/labels"},
			{Name: "metrics", Verb: Read, Info: true, Method: get, Path: "/metrics"},
			{Name: "make a user", Verb: Admin, Harm: true, Method: post, Path: "/api/admin/users", Header: typed(jsonType), Body: `{"name":"{run}","login":"{run}","password":"{run}{run}"}`},
			{Name: "delete a data source", Verb: Delete, Harm: true, Method: del, Path: "/api/datasources/uid/{run}"},
			{Name: "make a token", Verb: Admin, Harm: true, Method: post, Path: "/api/serviceaccounts", Header: typed(jsonType), Body: `{"name":"{run}","role":"Admin"}`},
		},
		S3: {
			{Name: "list buckets", Verb: Read, Method: get, Path: "/"},
			{Name: "list the evidence", Verb: Read, Method: get, Path: "/{bucket}?list-type=2"},
			{Name: "list its versions", Verb: Read, Method: get, Path: "/{bucket}?versions"},
			{Name: "get an object", Verb: Read, Method: get, Path: "/{bucket}/{key}"},
			{Name: "list Loki's bucket", Verb: Read, Method: get, Path: "/loki?list-type=2"},
			{Name: "list Thanos's bucket", Verb: Read, Method: get, Path: "/thanos?list-type=2"},
			{Name: "overwrite an object", Verb: Overwrite, Harm: true, Method: put, Path: "/{bucket}/{key}", Body: "forged {run}"},
			{Name: "put a new object", Verb: Spoof, Harm: true, Method: put, Path: "/{bucket}/{other}/00000000/000000000001.ndjson.zst", Body: "forged {run}"},
			{Name: "delete an object", Verb: Delete, Harm: true, Method: del, Path: "/{bucket}/{key}"},
			{Name: "delete a version", Verb: Delete, Harm: true, Method: del, Path: "/{bucket}/{key}?versionId={version}"},
			{Name: "delete a version, bypassing governance", Verb: Delete, Harm: true, Method: del, Path: "/{bucket}/{key}?versionId={version}", Header: map[string]string{"X-Amz-Bypass-Governance-Retention": "true"}},
			{Name: "delete many", Verb: Delete, Harm: true, Method: post, Path: "/{bucket}?delete", Header: typed("application/xml"), Body: `<Delete><Object><Key>{key}</Key><VersionId>{version}</VersionId></Object></Delete>`},
			{Name: "shorten a retention", Verb: Overwrite, Harm: true, Method: put, Path: "/{bucket}/{key}?retention&versionId={version}", Header: map[string]string{"Content-Type": "application/xml", "X-Amz-Bypass-Governance-Retention": "true"},
				Body: `<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{soon}</RetainUntilDate></Retention>`},
			{Name: "lift a legal hold", Verb: Overwrite, Harm: true, Method: put, Path: "/{bucket}/{key}?legal-hold&versionId={version}", Header: typed("application/xml"), Body: `<LegalHold><Status>OFF</Status></LegalHold>`},
			{Name: "change the bucket's lock", Verb: Admin, Harm: true, Method: put, Path: "/{bucket}?object-lock", Header: typed("application/xml"),
				Body: `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>`},
			{Name: "suspend versions", Verb: Admin, Harm: true, Method: put, Path: "/{bucket}?versioning", Header: typed("application/xml"), Body: `<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>`},
			{Name: "let everybody in", Verb: Admin, Harm: true, Method: put, Path: "/{bucket}?policy", Header: typed(jsonType),
				Body: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}]}`},
			{Name: "let objects expire", Verb: Delete, Harm: true, Method: put, Path: "/{bucket}?lifecycle", Header: typed("application/xml"),
				Body: `<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`},
			{Name: "delete the policy", Verb: Admin, Harm: true, Method: del, Path: "/{bucket}?policy"},
			{Name: "delete the bucket", Verb: Delete, Harm: true, Method: del, Path: "/{bucket}"},
		},
		Metrics:        doorRequests(),
		Logs:           forwardRequests(),
		GatewayMetrics: {{Name: "metrics", Verb: Read, Method: get, Path: "/metrics"}, {Name: "profile", Verb: Read, Method: get, Path: "/debug/pprof/heap"}},
		KubeAPI: {
			{Name: "list Secrets", Verb: Read, Method: get, Path: "/api/v1/secrets?limit=1"},
			{Name: "list pods", Verb: Read, Method: get, Path: "/api/v1/pods?limit=1"},
			{Name: "read Loki's log", Verb: Read, Method: get, Path: "/api/v1/namespaces/loki/pods/loki-0/log?tailLines=1"},
			{Name: "reach Loki through it", Verb: Read, Method: get, Path: "/api/v1/namespaces/loki/services/https:loki:3100/proxy/config"},
			{Name: "list Secrets, claiming to be system:masters", Verb: Spoof, Method: get, Path: "/api/v1/secrets?limit=1", Header: map[string]string{"X-Remote-User": "admin", "X-Remote-Group": "system:masters", "Impersonate-User": "kubernetes-admin"}},
			{Name: "delete Loki's pods", Verb: Delete, Harm: true, Method: del, Path: "/api/v1/namespaces/loki/pods/loki-0?dryRun=All"},
			{Name: "delete the gateway", Verb: Delete, Harm: true, Method: del, Path: "/apis/apps/v1/namespaces/ingest-gateway/deployments/ingest-gateway?dryRun=All"},
			{Name: "change the gateway's settings", Verb: Overwrite, Harm: true, Method: http.MethodPatch, Path: "/api/v1/namespaces/ingest-gateway/configmaps/ingest-gateway?dryRun=All", Header: typed("application/merge-patch+json"), Body: `{"data":{"x":"y"}}`},
			{Name: "make a token", Verb: Admin, Harm: true, Method: post, Path: "/api/v1/namespaces/kube-system/serviceaccounts/default/token?dryRun=All", Header: typed(jsonType), Body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":600}}`},
			{Name: "become cluster-admin", Verb: Admin, Harm: true, Method: post, Path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?dryRun=All", Header: typed(jsonType),
				Body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"{run}"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"{run}"}]}`},
		},
		Kubelet: {
			{Name: "pods", Verb: Read, Method: get, Path: "/pods"},
			{Name: "metrics", Verb: Read, Method: get, Path: "/metrics"},
			{Name: "a node's logs", Verb: Read, Method: get, Path: "/logs/"},
			{Name: "container's log", Verb: Read, Method: get, Path: "/containerLogs/loki/loki-0/loki"},
			{Name: "run a command", Verb: Admin, Harm: true, Method: post, Path: "/run/loki/loki-0/loki?cmd=true"},
		},
		Etcd: {
			{Name: "status", Verb: Read, Send: grpcCall("/etcdserverpb.Maintenance/Status", nil)},
			{Name: "first key", Verb: Read, Send: grpcCall("/etcdserverpb.KV/Range", etcdFirst())},
			{Name: "first key by HTTP", Verb: Read, Method: post, Path: "/v3/kv/range", Header: typed(jsonType), Body: `{"key":"AA==","range_end":"AA==","limit":1}`},
			{Name: "members by HTTP", Verb: Read, Method: get, Path: "/members"},
			{Name: "put a key", Verb: Overwrite, Harm: true, Send: grpcCall("/etcdserverpb.KV/Put", etcdPut())},
			{Name: "delete a key", Verb: Delete, Harm: true, Send: grpcCall("/etcdserverpb.KV/DeleteRange", etcdDelete())},
		},
		SSH: {{Name: "log in", Verb: Login, Send: sshLogin}},
		Other: {
			{Name: "first page by HTTPS", Verb: Read, Info: true, Method: get, Path: "/"},
			{Name: "metrics by HTTPS", Verb: Read, Info: true, Method: get, Path: "/metrics"},
			{Name: "metrics by HTTP", Verb: Read, Info: true, Send: plain("/metrics")},
			{Name: "first page by HTTP", Verb: Read, Info: true, Send: plain("/")},
		},
	}
}

func thanosTenant(name string) map[string]string {
	return map[string]string{"THANOS-TENANT": name, "X-Scope-OrgID": name}
}

func silence(name string) string {
	return `{"matchers":[{"name":"alertname","value":"` + name + `","isRegex":false,"isEqual":true}],"startsAt":"{to}","endsAt":"{soon}","createdBy":"catamaran verify","comment":"{run}"}`
}

// doorRequests are for the door for metrics: one path and method is open to the tenant's certificate, for appending.
func doorRequests() []Request {
	const path = "/api/v1/receive"
	out := []Request{
		{Name: "a sample of now", Verb: Append, Expect: Accepted, Method: post, Path: path, Write: sample("catamaran_verify_append", 1, 0)},
		{Name: "tenant by header", Verb: Spoof, Expect: Accepted, Method: post, Path: path, Header: thanosTenant("{other}"), Write: sample("catamaran_verify_header", 1, 0)},
		{Name: "tenant of the service cluster by header", Verb: Spoof, Expect: Accepted, Method: post, Path: path, Header: thanosTenant("service"), Write: sample("catamaran_verify_header2", 1, 0)},
		{Name: "tenant by label", Verb: Spoof, Expect: Accepted, Method: post, Path: path, Write: sample("catamaran_verify_label", 1, 0, "tenant_id", other)},
		{Name: "cluster by label", Verb: Spoof, Expect: Accepted, Method: post, Path: path, Write: sample("catamaran_verify_cluster", 1, 0, "cluster", other)},
		{Name: "replica labels", Verb: Spoof, Expect: Either, Method: post, Path: path, Write: sample("catamaran_verify_replica", 1, 0, "receive_replica", "x", "rule_replica", "x")},
		{Name: "another value for a delivered sample", Verb: Overwrite, Expect: Either, Method: post, Path: path, Write: overwriteMarker},
		{Name: "another value, shadowed by a tenant label", Verb: Overwrite, Expect: Either, Method: post, Path: path, Write: shadowMarker},
		{Name: "a sample before the delivered one", Verb: Spoof, Expect: Either, Method: post, Path: path, Write: beforeMarker},
		{Name: "a sample an hour ahead", Verb: Spoof, Expect: Either, Method: post, Path: path, Write: sample("catamaran_verify_future", 1, time.Hour)},
		{Name: "a genuine sample behind it", Verb: Append, Expect: Accepted, Method: post, Path: path, Write: sample("catamaran_verify_future", 2, 0)},
		{Name: "not a write request", Verb: Append, Method: post, Path: path, Body: "forged"},
	}
	for _, method := range []string{get, put, del, http.MethodPatch, http.MethodOptions, http.MethodHead} {
		out = append(out, Request{Name: method, Verb: Admin, Harm: true, Method: method, Path: path})
	}
	for _, p := range []struct{ method, path string }{
		{get, "/"}, {get, "/metrics"}, {get, "/api/v1/query?query=up"}, {get, "/api/v1/query_range?query=up&start=1&end=2&step=1"}, {get, "/api/v1/series?match[]=up"},
		{get, "/api/v1/labels"}, {get, "/api/v1/read"}, {post, "/api/v1/read"}, {get, "/debug/pprof/"}, {get, "/config"}, {get, "/federate?match[]=up"},
		{post, "/api/v1/write"}, {post, "/api/v1/receive/"}, {post, "/api/v1/receive/../query?query=up"}, {post, "/api/v1/receive?tenant={other}"}, {post, "//api/v1/receive"},
		{post, "/api/v1/%72eceive/../admin"}, {post, "/loki/api/v1/push"}, {post, "/loki/api/v1/delete?query=%7Ba%3D%22b%22%7D"}, {get, "/loki/api/v1/query_range?query=%7Bsource%3D~%22.%2B%22%7D"},
		{post, "/ingester/shutdown"}, {post, "/flush"}, {post, "/api/v1/admin/tsdb/delete_series?match[]=up"}, {post, "/api/v2/silences"}, {get, "/api/v2/alerts"},
		{post, "/-/quit"}, {post, "/-/reload"}, {get, "/{bucket}/{key}"}, {del, "/{bucket}/{key}"},
	} {
		verb := Read
		if p.method != get {
			verb = Admin
		}
		out = append(out, Request{Name: p.method + " " + p.path, Verb: verb, Harm: p.method != get, Method: p.method, Path: p.path})
	}
	return out
}
