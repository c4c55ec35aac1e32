package evidence

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// sound is a pack of a site on which everything is as it must be.
func sound() *Pack {
	now := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	policy := strings.Repeat("ab", 32)
	node := func(name, role, address string) Node {
		n := Node{
			Name: name, Role: role, Address: address, OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0-18-amd64", Arch: "x86_64",
			Versions: map[string]string{"kubelet": "1.37.2", "containerd": "2.4.2", "runc": "1.5.2"},
			HostKeys: []HostKey{{"ssh-ed25519", "SHA256:host-" + name}}, Pinned: []string{"SHA256:host-" + name},
			AuthorizedKeys: []AuthorizedKey{{User: "ops", File: "/home/ops/.ssh/authorized_keys", Type: "ssh-ed25519", Fingerprint: "SHA256:ann", Comment: "ann@umea"}},
			AuditLogAge:    -1, Disks: []Disk{{"/", "/dev/mapper/root", yes}, {"/var/lib/etcd", "/dev/mapper/etcd", yes}}, Swap: "off",
			TimeService: "chrony", TimeSources: []TimeSource{{"10.0.0.1", "reached"}, {"10.0.0.2", "reached"}}, Synced: true, Skew: -2.25, SkewError: 1.5,
		}
		if role == "control-plane" {
			n.ControlPlane, n.AuditPolicy, n.AuditLogAge, n.Encryption = true, policy, 4, "secretbox"
			n.Flags = map[string]string{"audit-log-path": "/var/log/kubernetes/audit/audit.log", "audit-policy-file": "/etc/kubernetes/audit/policy.yaml"}
		}
		return n
	}
	cluster := func(name, endpoint string, nodes ...Node) Cluster {
		return Cluster{
			Name: name, Endpoint: endpoint, Version: "1.37.2", Read: true, AuditPolicy: policy, Nodes: nodes, Enforcer: "Cilium",
			Images:       []Image{{"registry.k8s.io/pause:3.10.2", "sha256:" + strings.Repeat("0f", 32), 3}},
			Certificates: []Certificate{{nodes[0].Name + ": /etc/kubernetes/pki/apiserver.crt", "CN=kube-apiserver", "CN=kubernetes", now.AddDate(0, 8, 0)}},
			Namespaces:   []Namespace{{Name: "kube-system", PodSecurity: "privileged", Policies: 2, Pods: 6, Host: 4}},
			Admins:       []Admin{{Kind: "Group", Name: "system:masters", Binding: "cluster-admin", Role: "cluster-admin", Why: "Kubernetes itself"}},
			Gatekeeper:   Gatekeeper{Installed: true, Constraints: []Constraint{{"CatamaranImages", "pinned", "deny", 0, now.Add(-time.Minute)}}},
			Scans:        []Scan{{"trivy/scan", now.Add(-20 * time.Hour)}},
		}
	}
	p := &Pack{
		Site: "umea", Time: now, Operator: "ann", Version: "1.2.3", Inventory: strings.Repeat("cd", 32), Gaps: []Gap{},
		Clusters: []Cluster{
			cluster("service", "https://10.0.1.10:6443", node("sc-1", "control-plane", "10.0.1.11")),
			cluster("workload", "https://10.0.2.10:6443", node("wc-1", "control-plane", "10.0.2.11"), node("wc-2", "worker", "10.0.2.12")),
		},
		Authorities: []Certificate{{"vault: service cluster's Kubernetes", "CN=kubernetes", "CN=kubernetes", now.AddDate(9, 0, 0)}},
		Journal:     Journal{Entries: 120, Runs: 3, Last: Run{Time: now.Add(-time.Hour), Operator: "ann", Machine: "desk", Version: "1.2.3", Inventory: strings.Repeat("cd", 32)}},
	}
	p.Clusters[1].Falco = Workload{Installed: true, Ready: 2, Wanted: 2}
	for _, kind := range []string{"canary", "chain", "separation", "tamper"} {
		p.Documents = append(p.Documents, Checked{
			Kind: kind, File: kind + "-20261123T120000Z.json", Ended: now.Add(-27 * time.Hour), Verdict: verify.Pass, Facts: []verify.Fact{{Name: "looked at", Value: "all"}},
		})
	}
	return p
}

func evidenceOf(t *testing.T, p *Pack, id string) Evidence {
	t.Helper()
	p.judgeAll()
	i := slices.IndexFunc(p.Evidence, func(e Evidence) bool { return e.ID == id })
	require.GreaterOrEqual(t, i, 0, id)
	return p.Evidence[i]
}

func TestASoundSiteMeetsAllThatCanBeJudged(t *testing.T) {
	t.Parallel()
	p := sound()
	p.judgeAll()
	for _, e := range p.Evidence {
		want := Met
		if e.ID == "keys" || e.ID == "backups" { // only people, and nobody yet
			want = NotJudged
		}
		assert.Equal(t, want, e.Status, "%s: %s %v", e.ID, e.Reason, e.Missing)
		assert.NotEmpty(t, e.Reason, e.ID)
	}
	for _, c := range p.Controls {
		assert.NotEqual(t, NotMet, c.Status, c.ID)
	}
}

func TestJudgements(t *testing.T) {
	t.Parallel()
	cp := func(p *Pack) *Node { return &p.Clusters[1].Nodes[0] }
	wc := func(p *Pack) *Cluster { return &p.Clusters[1] }
	for name, c := range map[string]struct {
		id     string
		harm   func(*Pack)
		want   Status
		saying string // in the reason or in what is missing
	}{
		"audit off":               {"audit", func(p *Pack) { delete(cp(p).Flags, "audit-log-path") }, NotMet, "writes no audit log"},
		"another audit policy":    {"audit", func(p *Pack) { cp(p).AuditPolicy = "ff" }, NotMet, "wc-1: the audit policy is ff, expected abababababab"},
		"no audit policy":         {"audit", func(p *Pack) { cp(p).AuditPolicy = "" }, NotMet, "not there"},
		"a silent audit log":      {"audit", func(p *Pack) { cp(p).AuditLogAge = 7200 }, NotMet, "120 minutes"},
		"no audit log":            {"audit", func(p *Pack) { cp(p).AuditLogAge = -1 }, NotMet, "there is no audit log"},
		"a control plane is away": {"audit", func(p *Pack) { cp(p).Error = "no route" }, NotJudged, "wc-1: no route"},
		"a worker is away":        {"audit", func(p *Pack) { p.Clusters[1].Nodes[1].Error = "no route" }, Met, "2 of 2"},
		"no canary":               {"canary", func(p *Pack) { p.Documents = p.Documents[1:] }, NotJudged, "catamaran verify canary"},
		"a failed proof":          {"tamper", func(p *Pack) { p.Documents[3].Verdict = verify.Fail }, NotMet, "failed"},
		"an unjudged proof":       {"tamper", func(p *Pack) { p.Documents[3].Verdict = verify.Unjudged }, NotJudged, "could not be judged"},
		"an old proof":            {"tamper", func(p *Pack) { p.Documents[3].Ended = p.Time.AddDate(0, -2, 0) }, NotJudged, "too long"},
		"an old failure":          {"tamper", func(p *Pack) { p.Documents[3].Ended, p.Documents[3].Verdict = p.Time.AddDate(0, -2, 0), verify.Fail }, NotMet, "failed"},
		"a changed proof":         {"chain", func(p *Pack) { p.Documents[1].Error = "it is not what was signed" }, NotMet, "not what was signed"},
		"one time source":         {"time", func(p *Pack) { cp(p).TimeSources[0].State = "silent" }, NotMet, "1 time sources reached"},
		"not synchronised":        {"time", func(p *Pack) { cp(p).Synced = false }, NotMet, "synchronised: false"},
		"a wrong clock":           {"time", func(p *Pack) { cp(p).Skew = -150 }, NotMet, "-150 ms off"},
		"a clock hard to see":     {"time", func(p *Pack) { cp(p).Skew, cp(p).SkewError = 90, 40 }, NotJudged, "give or take 40"},
		"a certificate ended":     {"certificates", func(p *Pack) { wc(p).Certificates[0].NotAfter = p.Time }, NotMet, "ended 2026-11-24"},
		"a certificate ends":      {"certificates", func(p *Pack) { p.Authorities[0].NotAfter = p.Time.AddDate(0, 0, 29) }, NotMet, "in 29 days"},
		"a certificate has time":  {"certificates", func(p *Pack) { p.Authorities[0].NotAfter = p.Time.AddDate(0, 0, 30) }, Met, "3 of 3"},
		"certificates not read":   {"certificates", func(p *Pack) { wc(p).Read = false }, NotJudged, "workload"},
		"plain Secrets":           {"etcd", func(p *Pack) { cp(p).Encryption = "" }, NotMet, "in plain"},
		"identity first":          {"etcd", func(p *Pack) { cp(p).Encryption = "identity" }, NotMet, "identity"},
		"a plain disk":            {"disks", func(p *Pack) { cp(p).Disks[1].Encrypted = no }, NotMet, "/var/lib/etcd on /dev/mapper/etcd"},
		"no disk of its own":      {"disks", func(p *Pack) { cp(p).Disks[1].Encrypted = unknown }, NotJudged, "no disk of its own"},
		"swap":                    {"disks", func(p *Pack) { cp(p).Swap = "on" }, NotJudged, "swap is on"},
		"an open pod":             {"policies", func(p *Pack) { wc(p).Namespaces[0].OpenIn = []string{"web"} }, NotMet, "workload kube-system/web: reachable from everywhere"},
		"a talkative pod":         {"policies", func(p *Pack) { wc(p).Namespaces[0].OpenOut = []string{"web"} }, NotMet, "reaches everything"},
		"nothing enforces":        {"policies", func(p *Pack) { wc(p).Enforcer = "" }, NotMet, "nothing is known to enforce"},
		"an admin of the site": {"admins", func(p *Pack) {
			wc(p).Admins = append(wc(p).Admins, Admin{Kind: "ServiceAccount", Namespace: "ci", Name: "deploy", Binding: "ci", Role: "cluster-admin"})
		}, NotJudged, "workload: ServiceAccount ci/deploy has cluster-admin by ci"},
		"no admins seen":           {"admins", func(p *Pack) { p.Clusters[0].Admins, p.Clusters[1].Admins = nil, nil }, NotJudged, "no subjects"},
		"keys":                     {"keys", func(*Pack) {}, NotJudged, "keys that can sign in: 1"},
		"nothing pinned":           {"hosts", func(p *Pack) { cp(p).Pinned = nil }, NotMet, "wc-1: no key is pinned"},
		"another host key":         {"hosts", func(p *Pack) { cp(p).HostKeys[0].Fingerprint = "SHA256:evil" }, NotMet, "none of its keys"},
		"another version":          {"versions", func(p *Pack) { p.Clusters[1].Nodes[1].Versions["kubelet"] = "1.36.1" }, NotMet, "wc-2: it runs Kubernetes 1.36.1, the inventory says 1.37.2"},
		"no kubelet":               {"versions", func(p *Pack) { p.Clusters[1].Nodes[1].Versions = nil }, NotMet, "no kubelet"},
		"an image without digest":  {"images", func(p *Pack) { wc(p).Images[0].Digest = "" }, NotMet, "pause"},
		"never scanned":            {"scans", func(p *Pack) { wc(p).Scans[0].Last = time.Time{} }, NotMet, "last succeeded never"},
		"scanned long ago":         {"scans", func(p *Pack) { wc(p).Scans[0].Last = p.Time.AddDate(0, 0, -9) }, NotMet, "2026-11-15"},
		"no scan job":              {"scans", func(p *Pack) { wc(p).Scans = nil }, NotMet, "workload: there is no scan job"},
		"Falco is not there":       {"falco", func(p *Pack) { wc(p).Falco = Workload{} }, NotMet, "not installed"},
		"Falco is down":            {"falco", func(p *Pack) { wc(p).Falco.Ready = 1 }, NotMet, "ready on 1 of 2"},
		"Falco misses a machine":   {"falco", func(p *Pack) { wc(p).Falco = Workload{true, 1, 1} }, NotMet, "1 of 2 machines"},
		"Falco could not be seen":  {"falco", func(p *Pack) { wc(p).Read = false }, NotJudged, "could not be read"},
		"no workload cluster":      {"falco", func(p *Pack) { p.Clusters = p.Clusters[:1] }, NotJudged, "no workload cluster"},
		"a violation":              {"constraints", func(p *Pack) { wc(p).Gatekeeper.Constraints[0].Violations = 4 }, NotMet, "4 violations of 2 constraints"},
		"no Gatekeeper":            {"constraints", func(p *Pack) { wc(p).Gatekeeper = Gatekeeper{} }, NotMet, "not installed"},
		"never audited":            {"constraints", func(p *Pack) { wc(p).Gatekeeper.Constraints[0].Audited = time.Time{} }, NotJudged, "never audited"},
		"a broken journal":         {"journal", func(p *Pack) { p.Journal.Error = "line 3 was changed" }, NotMet, "line 3"},
		"no journal":               {"journal", func(p *Pack) { p.Journal = Journal{} }, NotJudged, "no journal"},
		"another inventory":        {"inventory", func(p *Pack) { p.Inventory = "00" }, NotMet, "applied last was cdcdcdcdcdcd"},
		"the last apply failed":    {"inventory", func(p *Pack) { p.Journal.Last.Failed = 2 }, NotMet, "2 steps"},
		"the journal can not tell": {"inventory", func(p *Pack) { p.Journal.Error = "x" }, NotJudged, "does not tell"},
		"backups":                  {"backups", func(*Pack) {}, NotJudged, "not covered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := sound()
			c.harm(p)
			e := evidenceOf(t, p, c.id)
			assert.Equal(t, c.want, e.Status, "%s %v", e.Reason, e.Missing)
			assert.Contains(t, e.Reason+"\n"+strings.Join(e.Missing, "\n"), c.saying)
		})
	}
}

// An empty site proves nothing.
func TestNothingSeenIsNotMet(t *testing.T) {
	t.Parallel()
	p := &Pack{Time: time.Now()}
	p.judgeAll()
	for _, e := range p.Evidence {
		assert.NotEqual(t, Met, e.Status, e.ID)
	}
	for _, c := range p.Controls {
		assert.NotEqual(t, Met, c.Status, c.ID)
	}
}

func TestControlsNameEvidenceThatExists(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	known := map[string]bool{}
	for _, j := range judgements() {
		assert.False(t, known[j.id], "%s is there twice", j.id)
		known[j.id] = true
	}
	for _, c := range controls() {
		assert.NotEmpty(t, c.Evidence, c.ID)
		for _, id := range c.Evidence {
			assert.True(t, known[id], "%s %s names %q", c.Framework, c.ID, id)
			used[id] = true
		}
	}
	for id := range known {
		assert.True(t, used[id], "no control uses %s", id)
	}
}

func TestAControlIsAsBadAsItsWorstEvidence(t *testing.T) {
	t.Parallel()
	by := map[string]Evidence{}
	for _, j := range judgements() {
		by[j.id] = Evidence{Status: Met}
	}
	of := func(id string) Status {
		for _, c := range judgeControls(by) {
			if c.ID == id {
				return c.Status
			}
		}
		return ""
	}
	assert.Equal(t, Met, of("A.10.1"))
	by["disks"] = Evidence{Status: NotJudged}
	assert.Equal(t, NotJudged, of("A.10.1"))
	by["etcd"] = Evidence{Status: NotMet}
	assert.Equal(t, NotMet, of("A.10.1"))
	by["etcd"], by["disks"] = Evidence{Status: NotJudged}, Evidence{Status: NotMet}
	assert.Equal(t, NotMet, of("A.10.1"))
}
