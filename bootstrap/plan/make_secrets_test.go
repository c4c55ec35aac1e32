package plan

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func serviceTLS(name string) embedded.Secret {
	return embedded.Secret{Namespace: name, Name: name + "-tls", Certificate: &embedded.Certificate{
		Issuer: embedded.IssuerService, Trust: embedded.IssuerService, CommonName: name, DNSNames: []string{name + "." + name + ".svc"}, Server: true, Client: true,
	}}
}

// platformSite is a site whose clusters have a part of the platform each.
func platformSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	add := func(c inventory.ClusterName, order int, name, after string, secrets ...embedded.Secret) {
		s.in.Releases[c] = append(s.in.Releases[c], embedded.Release{
			Cluster: c, Name: name, Namespace: name, Order: order, Digest: name, Version: "1.0.0", Chart: embedded.ChartSource{Embedded: name},
			PodSecurity: "restricted", Timeout: time.Minute, After: after, Secrets: secrets,
		})
	}
	add(inventory.Service, 34, "loki", "", serviceTLS("loki"), embedded.Secret{Namespace: "loki", Name: "loki-s3", Values: map[string]embedded.SecretValue{
		"access": {Text: "loki"}, "secret": {Password: "s3-loki"},
	}})
	add(inventory.Service, 36, "ingest-gateway", "", serviceTLS("ingest-gateway"))
	add(inventory.Workload, 30, "node-exporter", "")
	add(inventory.Workload, 40, "fluentd", "ingest-gateway", embedded.Secret{Namespace: "fluentd", Name: "ingest-client", Certificate: &embedded.Certificate{
		Issuer: embedded.IssuerIngestClient, Trust: embedded.IssuerIngestServer, CommonName: "umea-workload", Organization: []string{"umea-workload"}, Client: true,
	}})
	return s
}

// applied is a site on which everything was done.
func applied(t *testing.T) *site {
	t.Helper()
	s := platformSite(t)
	s.apply(s.plan(), nil)
	require.Empty(t, ids(s.plan()), "a second run changes nothing")
	return s
}

func TestSecretsComeBeforeTheirRelease(t *testing.T) {
	t.Parallel()
	s := platformSite(t)
	p := s.plan()
	assert.Equal(t, 1, count(p, func(st Step) bool { return st.ID == platformSecrets }))
	for _, id := range []string{"service/secret/loki/loki-tls", "service/secret/loki/loki-s3", "workload/secret/fluentd/ingest-client"} {
		put := step(t, p, id)
		assert.Contains(t, put.Needs, platformSecrets)
		assert.Equal(t, "it is not there", put.Reason)
		assert.False(t, put.Task.(PutSecret).Await, "the release waits")
		assert.Equal(t, "restricted", put.Task.(PutSecret).PodSecurity, "the namespace is made with it")
	}
	assert.Equal(t, []string{"service/sc-1/init", "service/release/local-path", "service/secret/loki/loki-tls", "service/secret/loki/loki-s3"},
		step(t, p, "service/release/loki").Needs)
	assert.Equal(t, step(t, p, "service/secret/loki/loki-tls").Lock, step(t, p, "service/secret/loki/loki-s3").Lock, "each restarts what is in the namespace")
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()))
}

// Clusters are built at the same time; only what sends to the gateway waits for it.
func TestOneClusterWaitsForTheOther(t *testing.T) {
	t.Parallel()
	p := platformSite(t).plan()
	waits := map[string][]string{}
	for _, st := range p.Steps {
		for _, need := range st.Needs {
			if other, _, _ := strings.Cut(need, "/"); other != string(st.Cluster) && need != platformSecrets {
				waits[st.ID] = append(waits[st.ID], need)
			}
		}
	}
	assert.Equal(t, map[string][]string{"workload/release/fluentd": {"service/release/ingest-gateway"}}, waits)

	s := applied(t)
	s.eachControlPlane(inventory.Workload, func(c *host.ClusterFacts) { c.Releases = nil })
	assert.NotContains(t, step(t, s.plan(), "workload/release/fluentd").Needs, "service/release/ingest-gateway", "it is there already")
}

func TestSecretsThatMustBePutAgain(t *testing.T) {
	t.Parallel()
	loki := func(s *site, change func(*host.SecretFacts)) {
		s.eachControlPlane(inventory.Service, func(c *host.ClusterFacts) {
			for i := range c.Secrets {
				if c.Secrets[i].Name == "loki-tls" {
					change(&c.Secrets[i])
				}
			}
		})
	}
	const tls = "service/secret/loki/loki-tls"
	for name, c := range map[string]struct {
		change func(*site)
		want   []string
		reason string
	}{
		"none":           {func(*site) {}, nil, ""},
		"61 days before": {func(s *site) { s.in.Now = s.in.Now.Add(secretValidity - 61*24*time.Hour) }, nil, ""},
		"59 days before": {func(s *site) {
			loki(s, func(f *host.SecretFacts) { f.NotAfter = s.in.Now.Add(59*24*time.Hour + time.Minute) })
		}, []string{tls}, "its certificate ends in 59 days"},
		"after its end":     {func(s *site) { loki(s, func(f *host.SecretFacts) { f.NotAfter = s.in.Now.Add(-time.Hour) }) }, []string{tls}, "its certificate ends in 0 days"},
		"cut off":           {func(s *site) { loki(s, func(f *host.SecretFacts) { f.Digest = "" }) }, []string{tls}, "an earlier run was cut off while it put it"},
		"changed by others": {func(s *site) { loki(s, func(f *host.SecretFacts) { f.Digest = "x" }) }, []string{tls}, "what it is made from changed"},
		"removed": {func(s *site) {
			s.eachControlPlane(inventory.Service, func(c *host.ClusterFacts) {
				c.Secrets = slices.DeleteFunc(c.Secrets, func(f host.SecretFacts) bool { return f.Name == "loki-tls" })
			})
		}, []string{tls}, "it is not there"},
		"another name in it": {func(s *site) {
			for _, r := range s.in.Releases[inventory.Service] {
				if r.Name == "loki" {
					r.Secrets[0].Certificate.DNSNames = append(r.Secrets[0].Certificate.DNSNames, "loki")
				}
			}
		}, []string{tls}, "what it is made from changed"},
		"another password": {func(s *site) { s.platform.Passwords["s3-loki"] = strings.Repeat("x", 43) }, []string{"service/secret/loki/loki-s3"}, "what it is made from changed"},
		"a vault of before the password": {func(s *site) { delete(s.platform.Passwords, "s3-loki") }, []string{"service/secret/loki/loki-s3"},
			"the vault does not hold what it is made from"},
		"another authority": {func(s *site) {
			fresh, err := pki.NewPlatformSecrets()
			require.NoError(s.t, err)
			s.platform.IngestServerCA = fresh.IngestServerCA
		}, []string{"workload/secret/fluentd/ingest-client"}, "what it is made from changed"},
		"another vault": {func(s *site) { s.platform = nil },
			[]string{platformSecrets, tls, "service/secret/loki/loki-s3", "service/secret/ingest-gateway/ingest-gateway-tls", "workload/secret/fluentd/ingest-client"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := applied(t)
			c.change(s)
			p := s.plan()
			var got []string
			for _, st := range p.Steps {
				if _, kubeconfig := st.Task.(WriteKubeconfig); kubeconfig {
					continue // months later
				}
				if strings.HasSuffix(st.ID, "kubelet-certificate") {
					continue
				}
				got = append(got, st.ID)
				if c.reason != "" {
					assert.Equal(t, c.reason, st.Reason)
				}
				if put, ok := st.Task.(PutSecret); ok {
					assert.True(t, put.Await, "no release waits for what is restarted")
				}
			}
			assert.Equal(t, c.want, got)
			s.apply(p, nil)
			assert.Empty(t, ids(s.plan()))
		})
	}
}

func TestWithoutSecretsThereIsNoPlatform(t *testing.T) {
	t.Parallel()
	assert.NotContains(t, ids(newSite(t).plan()), platformSecrets)
}

// What a plan shows, saves and digests has nothing of a Secret's content in it, not even a plain hash.
func TestPlansHoldNoSecrets(t *testing.T) {
	t.Parallel()
	s := applied(t)
	s.platform.Passwords["s3-loki"] = "Canary_7351_Canary_7351"
	dir := t.TempDir()
	weak := filepath.Join(dir, "weak")
	require.NoError(t, os.WriteFile(weak, []byte("Canary_hook"), 0o600))
	s.in.Releases[inventory.Service][2].Secrets = append(s.in.Releases[inventory.Service][2].Secrets, embedded.Secret{
		Namespace: "loki", Name: "hook", Values: map[string]embedded.SecretValue{"url": {From: &inventory.Secret{File: weak}}, "users.json": {Text: `{"secret": "{{s3-loki}}"}`}},
	})
	p := s.plan()
	require.Len(t, p.Steps, 2)
	var shown bytes.Buffer
	require.NoError(t, Render(&shown, p, RenderOptions{}))
	require.NoError(t, RenderJSON(&shown, p))
	for _, st := range p.Steps {
		task, err := json.Marshal(st.Task)
		require.NoError(t, err)
		shown.Write(task)
	}
	for _, secret := range []string{"Canary_7351_Canary_7351", "Canary_hook"} {
		assert.NotContains(t, shown.String(), secret)
		assert.NotContains(t, shown.String(), sum(secret))
	}
	assert.Contains(t, shown.String(), weak, "where it comes from may be shown")
}

func TestSecretContent(t *testing.T) {
	t.Parallel()
	vault, err := pki.NewPlatformSecrets()
	require.NoError(t, err)
	vault.Passwords["s3-loki"] = "p"
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

	with := serviceTLS("loki")
	with.Values = map[string]embedded.SecretValue{"users.json": {Text: `{"loki": "{{s3-loki}}"}`}}
	kind, data, end, err := secretContent(with, vault, now)
	require.NoError(t, err)
	assert.Equal(t, corev1.SecretTypeTLS, kind)
	assert.Equal(t, now.Add(secretValidity-5*time.Minute), end)
	assert.JSONEq(t, `{"loki": "p"}`, string(data["users.json"]))
	assert.Equal(t, vault.ServiceCA.Cert, string(data["ca.crt"]))
	block, _ := pem.Decode(data["tls.crt"])
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	assert.Equal(t, []string{"loki.loki.svc"}, cert.DNSNames)
	assert.Len(t, data, 4)

	client := embedded.Secret{Namespace: "fluentd", Name: "ingest-client", Certificate: &embedded.Certificate{
		Issuer: embedded.IssuerIngestClient, Trust: embedded.IssuerIngestServer, CommonName: "t", Client: true,
	}}
	_, data, _, err = secretContent(client, vault, now)
	require.NoError(t, err)
	assert.Equal(t, vault.IngestServerCA.Cert, string(data["ca.crt"]))
	for _, ca := range []pki.KeyPair{vault.ServiceCA, vault.IngestServerCA, vault.IngestClientCA} {
		for key, content := range data {
			assert.NotContains(t, string(content), ca.Key, "%s: the authorities' keys stay in the vault", key)
		}
	}

	for want, s := range map[string]embedded.Secret{
		"would hold nothing":                  {Namespace: "n", Name: "s"},
		"the vault has no password other":     {Namespace: "n", Name: "s", Values: map[string]embedded.SecretValue{"k": {Password: "other"}}},
		"the vault has no password a, b":      {Namespace: "n", Name: "s", Values: map[string]embedded.SecretValue{"k": {Text: "{{a}}:{{b}}"}}},
		`there is no authority "x"`:           {Namespace: "n", Name: "s", Certificate: &embedded.Certificate{Issuer: "x", Trust: "service", CommonName: "c", Client: true}},
		"the certificate has the key tls.key": {Namespace: "n", Name: "s", Certificate: client.Certificate, Values: map[string]embedded.SecretValue{"tls.key": {Text: "x"}}},
		"no such file":                        {Namespace: "n", Name: "s", Values: map[string]embedded.SecretValue{"k": {File: "/nonexistent"}}},
	} {
		_, _, _, err := secretContent(s, vault, now)
		assert.ErrorContains(t, err, want)
	}
}

func count(p Plan, f func(Step) bool) int {
	n := 0
	for _, s := range p.Steps {
		if f(s) {
			n++
		}
	}
	return n
}

// In a cluster that stands, pods may be scheduled at once: their image must be there first, or they back off for minutes.
func TestImagesComeBeforeReleasesOfAStandingCluster(t *testing.T) {
	t.Parallel()
	s := applied(t)
	delete(s.facts("wc-4").Images, "example.org/flannel:v1")
	for i := range s.in.Releases[inventory.Workload] {
		if r := &s.in.Releases[inventory.Workload][i]; r.Name == "local-path" {
			r.Digest = "another"
		}
	}
	p := s.plan()
	assert.Contains(t, step(t, p, "workload/release/local-path").Needs, "workload/wc-4/images")
}

// The only API server does not answer while it restarts.
func TestReleasesWaitForRestartsOfAPIServers(t *testing.T) {
	t.Parallel()
	s := platformSite(t)
	platform := s.in.Releases
	s.in.Releases = map[inventory.ClusterName][]embedded.Release{}
	s.apply(s.plan(), nil)
	s.in.Releases = platform
	s.in.AuditPolicies[inventory.Service] += "# another\n"
	p := s.plan()
	step(t, p, "service/sc-1/reconfigure")
	for _, id := range []string{"service/secret/loki/loki-tls", "service/release/loki"} {
		assert.Contains(t, step(t, p, id).Needs, "service/sc-1/reconfigure")
	}
}
