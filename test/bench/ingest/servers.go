package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

// The names of what runs, as the tables show them.
const (
	gatewayName, lokiName, storeName = "gateway", "Loki", "versitygw"
	bucket                           = "evidence"
	// patience bounds how long a program may take to answer for the first time.
	patience = 2 * time.Minute
	// unlimited is far above what a machine can do, in MiB a second; the highest that Loki's chart takes.
	unlimited = 4096
)

// programs are the paths of what is measured.
type programs struct{ gateway, loki, versitygw string }

// build finds them in the lab's cache, or builds them.
func findPrograms(ctx context.Context) (programs, error) {
	var p programs
	for name, to := range map[string]*string{"ingest-gateway": &p.gateway, "loki": &p.loki, "versitygw": &p.versitygw} {
		built, err := build.One(ctx, build.Options{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}, name)
		if err != nil {
			return p, fmt.Errorf("build %s: %w", name, err)
		}
		*to = built.Path
	}
	return p, nil
}

// site is a service cluster's way of logs, new for every phase: empty folders, programs that have just begun, and
// authorities as the product makes them.
type site struct {
	dir      string
	programs programs
	size     string
	running  []*process

	internal *certs.Folder // as a part of the service cluster
	client   *tls.Config   // as the workload cluster

	lokiURL, s3Endpoint, forward, telemetry string
	gateway                                 config.Config // as the chart renders it
}

// open makes the site with the programs that are named.
func open(ctx context.Context, dir string, p programs, size string, names []string) (*site, error) {
	s := &site{dir: dir, programs: p, size: size}
	err := s.certificates()
	for _, name := range names {
		if err == nil {
			err = map[string]func(context.Context) error{gatewayName: s.startGateway, lokiName: s.startLoki, storeName: s.startStore}[name](ctx)
		}
	}
	if err == nil && s.forward == "" {
		// its settings say what the others are compared at
		_, err = s.gatewayConfig([4]int{})
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close ends the programs, the last one first.
func (s *site) close() error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		errs = append(errs, s.running[i].stop())
	}
	return errors.Join(errs...)
}

func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// certificates makes the folders that the Secrets of an installation are.
func (s *site) certificates() error {
	secrets, err := pki.NewPlatformSecrets()
	if err != nil {
		return err
	}
	issue := func(folder, name string, by, trusts pki.KeyPair) error {
		pair, err := pki.Issue(by, pki.CertificateRequest{
			CommonName: name, Organization: []string{name}, DNSNames: []string{name}, IPs: []string{"127.0.0.1"}, Server: true, Client: true,
		}, time.Now().Add(-time.Minute), 24*time.Hour)
		if err != nil {
			return err
		}
		for file, text := range map[string]string{"tls.crt": pair.Cert, "tls.key": pair.Key, "ca.crt": trusts.Cert} {
			if err := s.write(text, folder, file); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(
		issue("tls", "service", secrets.ServiceCA, secrets.ServiceCA),
		issue("door", "ingest-gateway", secrets.IngestServerCA, secrets.IngestClientCA),
		issue("agent", tenant, secrets.IngestClientCA, secrets.IngestServerCA),
	); err != nil {
		return err
	}
	if s.internal, err = certs.Open(s.path("tls"), time.Hour, nil); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(s.path("agent", "tls.crt"), s.path("agent", "tls.key"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(secrets.IngestServerCA.Cert))
	s.client = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: "127.0.0.1"}
	return nil
}

func (s *site) write(text string, parts ...string) error {
	path := s.path(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

func (s *site) run(ctx context.Context, name string, env []string, program string, args ...string) error {
	p, err := start(ctx, s.dir, name, env, program, args...)
	if err == nil {
		s.running = append(s.running, p)
	}
	return err
}

// startLoki runs Loki as its chart does, on a volume; but for the limit of what one tenant may write.
func (s *site) startLoki(ctx context.Context) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	text, err := s.configured("loki", map[string]any{"ingestionRateMiB": unlimited}, "loki.yaml", map[string]string{
		"/etc/catamaran/tls": s.path("tls"), "/var/loki": s.path("loki"),
		"http_listen_port: 3100": fmt.Sprintf("http_listen_address: 127.0.0.1\n  http_listen_port: %d", ports[0]),
		"grpc_listen_port: 9095": fmt.Sprintf("grpc_listen_port: %d", ports[1]),
	})
	if err != nil {
		return err
	}
	if err := s.write(text, "loki.yaml"); err != nil {
		return err
	}
	if err := s.run(ctx, lokiName, nil, s.programs.loki, "-config.file="+s.path("loki.yaml"), "-config.expand-env=true"); err != nil {
		return err
	}
	s.lokiURL = fmt.Sprintf("https://127.0.0.1:%d", ports[0])
	return s.await(ctx, s.lokiURL+"/ready")
}

// startStore runs versitygw as its chart does, with the chart's users' names, buckets and policies, which the gateway's own
// program makes.
func (s *site) startStore(ctx context.Context) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	accounts := map[string]any{}
	keys := map[string]string{}
	for _, user := range []string{"root", "ingest-gateway", "loki", "thanos", "reader"} {
		if keys[user], err = pki.NewPassword(); err != nil {
			return err
		}
		if user != "root" {
			accounts[user] = map[string]any{"access": user, "secret": keys[user], "role": "user"}
		}
	}
	users, err := json.Marshal(map[string]any{"accessAccounts": accounts})
	if err != nil {
		return err
	}
	s.s3Endpoint = fmt.Sprintf("https://127.0.0.1:%d", ports[0])
	policies, err := s.configured("versitygw", nil, "buckets.yaml", map[string]string{
		"https://versitygw.versitygw.svc:7070": s.s3Endpoint, "/etc/catamaran/tls": s.path("tls"), "/etc/catamaran/root": s.path("root"),
	})
	if err != nil {
		return err
	}
	for path, text := range map[string]string{
		"users/users.json": string(users), "root/access": "root", "root/secret": keys["root"], "s3/access": "ingest-gateway", "s3/secret": keys["ingest-gateway"],
		"buckets.yaml": policies,
	} {
		if err := s.write(text, path); err != nil {
			return err
		}
	}
	for _, folder := range []string{"data/buckets", "data/versions"} {
		if err := os.MkdirAll(s.path(folder), 0o700); err != nil {
			return err
		}
	}
	args, err := s.arguments("versitygw", map[string]string{
		"--port=:7070": fmt.Sprintf("--port=127.0.0.1:%d", ports[0]), "127.0.0.1:7071": fmt.Sprintf("127.0.0.1:%d", ports[1]),
		"/etc/catamaran/tls": s.path("tls"), "/etc/catamaran/users": s.path("users"), "/data/": s.path("data") + "/",
	})
	if err != nil {
		return err
	}
	if err := s.run(ctx, storeName, []string{"ROOT_ACCESS_KEY_ID=root", "ROOT_SECRET_ACCESS_KEY=" + keys["root"]}, s.programs.versitygw, args...); err != nil {
		return err
	}
	if err := s.await(ctx, s.s3Endpoint+"/healthz"); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, s.programs.gateway, "buckets", "--config", s.path("buckets.yaml")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ingest-gateway buckets: %w\n%s", err, out)
	}
	return nil
}

// startGateway runs the gateway as its chart does; but for the limits of what one tenant may send.
func (s *site) startGateway(ctx context.Context) error {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	text, err := s.gatewayConfig([4]int(ports))
	if err != nil {
		return err
	}
	if err := s.write(text, "gateway.yaml"); err != nil {
		return err
	}
	if err := s.run(ctx, gatewayName, nil, s.programs.gateway, "serve", "--config", s.path("gateway.yaml")); err != nil {
		return err
	}
	s.forward, s.telemetry = s.gateway.Forward.Listen, "https://"+s.gateway.Telemetry.Listen+"/metrics"
	return s.await(ctx, "http://"+s.gateway.Probes.Listen+"/readyz")
}

func (s *site) gatewayConfig(ports [4]int) (string, error) {
	values := map[string]any{
		"tenants": []any{tenant}, "limits": map[string]any{"recordsPerSecond": 0, "mebibytesPerSecond": 0},
		// nothing of the metrics door is used
		"thanos": map[string]any{"url": "https://127.0.0.1:1"},
	}
	if s.lokiURL != "" {
		values["loki"] = map[string]any{"url": s.lokiURL}
	}
	if s.s3Endpoint != "" {
		values["s3"] = map[string]any{"endpoint": s.s3Endpoint, "bucket": bucket}
	}
	replace := map[string]string{"/etc/catamaran/door": s.path("door"), "/etc/catamaran/tls": s.path("tls"), "/etc/catamaran/s3": s.path("s3")}
	for i, port := range []string{":24224", ":9443", ":9090", ":8080"} {
		replace[`"`+port+`"`] = fmt.Sprintf(`"127.0.0.1:%d"`, ports[i])
	}
	text, err := s.configured("ingest-gateway", values, "gateway.yaml", replace)
	if err != nil {
		return "", err
	}
	s.gateway, err = config.Parse([]byte(text))
	return text, err
}

// bucket is the locked bucket with the gateway's own keys.
func (s *site) bucket() (*store.S3, error) {
	return store.New(store.Options{
		Endpoint: s.s3Endpoint, Region: "us-east-1", Bucket: bucket, AccessFile: s.path("s3", "access"), SecretFile: s.path("s3", "secret"), Dial: s.internal.Dial,
	})
}

// rendered are the objects of a chart.
func (s *site) rendered(name string, values map[string]any) ([]map[string]any, error) {
	chart, err := helm.LoadDir(filepath.Join("embedded", "charts", name))
	if err != nil {
		return nil, fmt.Errorf("run this at the top of the repository: %w", err)
	}
	values = helm.Merge(map[string]any{"size": s.size}, values)
	if err := chart.CheckValues(values); err != nil {
		return nil, err
	}
	r, err := chart.Render(helm.RenderOptions{Name: name, Namespace: name, KubeVersion: "1.37.2", Values: values})
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, document := range strings.Split(r.Manifest, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, err
		}
		out = append(out, object)
	}
	return out, nil
}

// configured is a file of a chart's ConfigMap, with the cluster's paths and ports replaced by this site's. Each must be there.
func (s *site) configured(chart string, values map[string]any, file string, replace map[string]string) (string, error) {
	objects, err := s.rendered(chart, values)
	if err != nil {
		return "", err
	}
	for _, o := range objects {
		if data, ok := o["data"].(map[string]any); ok && data[file] != nil {
			text, missing := replaced(fmt.Sprint(data[file]), replace)
			if missing != nil {
				return "", fmt.Errorf("%s of chart %s has no %q any more", file, chart, missing)
			}
			return text, nil
		}
	}
	return "", fmt.Errorf("chart %s has no ConfigMap with %s", chart, file)
}

// arguments are those of the first container of a chart's StatefulSet, replaced likewise.
func (s *site) arguments(chart string, replace map[string]string) ([]string, error) {
	objects, err := s.rendered(chart, nil)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o["kind"] != "StatefulSet" {
			continue
		}
		var set struct {
			Spec struct {
				Template struct {
					Spec struct{ Containers []struct{ Args []string } }
				}
			}
		}
		data, err := json.Marshal(o)
		if err == nil {
			err = json.Unmarshal(data, &set)
		}
		if err != nil {
			return nil, err
		}
		text, missing := replaced(strings.Join(set.Spec.Template.Spec.Containers[0].Args, "\n"), replace)
		if missing != nil {
			return nil, fmt.Errorf("the arguments of chart %s have no %q any more", chart, missing)
		}
		return strings.Split(text, "\n"), nil
	}
	return nil, fmt.Errorf("chart %s has no StatefulSet", chart)
}

// replaced replaces all at once, and names what was not there.
func replaced(text string, replace map[string]string) (string, []string) {
	var pairs, missing []string
	for from, to := range replace {
		if !strings.Contains(text, from) {
			missing = append(missing, from)
		}
		pairs = append(pairs, from, to)
	}
	return strings.NewReplacer(pairs...).Replace(text), missing
}

// await asks until an address answers 200, or a program of the site has ended.
func (s *site) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := s.running[len(s.running)-1]
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := s.get(ctx, url); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return p.said(fmt.Errorf("no answer from %s within %s: %w", url, patience, ctx.Err()))
		case <-p.done:
			return p.said(fmt.Errorf("it ended: %w", errors.Join(p.err, errors.New("nothing was asked of it yet"))))
		case <-tick.C:
		}
	}
}

// get asks as a part of the service cluster.
func (s *site) get(ctx context.Context, url string) (string, error) {
	transport := &http.Transport{DialTLSContext: s.internal.Dial}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("X-Scope-OrgID", tenant)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // it is read to its end
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, answer.Status, tail(string(text)))
	}
	return string(text), err
}

func tail(s string) string { return s[max(0, len(s)-3000):] }
