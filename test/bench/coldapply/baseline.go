package main

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
)

//go:embed baseline.sh
var script string

// baseline is the shell script with everything that it is given.
type baseline struct {
	dir      string
	machines []machine
	status   labStatus
}

type machine struct {
	name, address string
	cluster       inventory.ClusterName
	role          string // init, join or worker, as the script calls it
}

// labStatus is what the script needs of `lab status -o json`.
type labStatus struct {
	KeyFile    string `json:"keyFile"`
	KnownHosts string `json:"knownHosts"`
}

// preparation gathers the script's archives out of the steps of a plan, so that both contenders do the same.
type preparation struct {
	baseline
	site    *bootstrap.Site
	secrets map[inventory.ClusterName]pki.ClusterSecrets
	tokens  map[inventory.ClusterName]string
	files   map[string][]file // by machine
	scripts map[string]string // by machine
	objects map[inventory.ClusterName]string
}

// file is one entry of a machine's archive; content is either here or in the bundle.
type file struct {
	path    string
	mode    int64
	content string
	digest  string
}

// prepare plans the bare machines, and writes down what apply would bring to them.
func prepare(ctx context.Context, l lab, dir string) (baseline, error) {
	p := preparation{
		baseline: baseline{dir: dir},
		secrets:  map[inventory.ClusterName]pki.ClusterSecrets{}, tokens: map[inventory.ClusterName]string{},
		files: map[string][]file{}, scripts: map[string]string{}, objects: map[inventory.ClusterName]string{},
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p.baseline, err
	}
	out, err := exec.CommandContext(ctx, l.binary, "--dir", l.dir, "--name", l.name, "status", "-o", "json").Output()
	if err != nil {
		return p.baseline, fmt.Errorf("lab status: %w", err)
	}
	if err := json.Unmarshal(out, &p.status); err != nil {
		return p.baseline, fmt.Errorf("lab status: %w", err)
	}
	p.site, err = bootstrap.Open(l.inventory(), bootstrap.Options{Operator: "bench", Providers: provider.Registry{"onprem": onprem.New()}})
	if err != nil {
		return p.baseline, err
	}
	defer p.site.Close()
	pl, err := p.site.Plan(ctx)
	if err != nil {
		return p.baseline, err
	}
	for _, c := range p.site.Inventory.ClusterNames() {
		if p.secrets[c], err = pki.NewClusterSecrets(); err != nil {
			return p.baseline, err
		}
		if p.tokens[c], err = bootstraputil.GenerateBootstrapToken(); err != nil {
			return p.baseline, err
		}
	}
	for _, s := range pl.Steps {
		if err := p.step(s.Task); err != nil {
			return p.baseline, fmt.Errorf("step %s: %w", s.ID, err)
		}
	}
	return p.baseline, p.write()
}

// step takes what the script needs out of one step.
func (p *preparation) step(task plan.Task) error {
	switch t := task.(type) {
	case plan.InstallPrograms:
		for _, x := range t.Programs {
			p.files[t.Node] = append(p.files[t.Node], file{path: x.Path, mode: 0o755, digest: x.Digest})
		}
	case plan.PrepareHost:
		for _, x := range t.Changes.Files {
			p.put(t.Node, x.Path, int64(x.Mode), x.Content)
		}
		p.scripts[t.Node] = t.Changes.Script()
	case plan.ImportImages:
		return p.images(t)
	case plan.MakeMember:
		return p.member(t)
	case plan.InstallRelease:
		manifest, err := t.Release.Manifest()
		if err != nil {
			return err
		}
		if t.Release.Namespace != "kube-system" {
			p.objects[t.Release.Cluster] += fmt.Sprintf("---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels: {pod-security.kubernetes.io/enforce: %s}\n", t.Release.Namespace, t.Release.PodSecurity)
		}
		p.objects[t.Release.Cluster] += "---\n" + manifest
	case plan.MakeSecrets, plan.WriteKubeconfig, plan.AwaitReady, plan.LabelNode: // the operator's own, or a wait
	default:
		return fmt.Errorf("the script does not know %T", task)
	}
	return nil
}

func (p *preparation) put(node, path string, mode int64, content string) {
	p.files[node] = append(p.files[node], file{path: path, mode: mode, content: content})
}

// member puts secrets, certificates and kubeadm's configuration in their places.
func (p *preparation) member(t plan.MakeMember) error {
	sec := p.secrets[t.Cluster]
	const year = 365 * 24 * time.Hour
	serving, err := pki.KubeletServing(sec.CA, t.Node, t.Address, time.Now().Add(-time.Minute), year)
	if err != nil {
		return err
	}
	p.put(t.Node, kubeadm.ServingCert, 0o644, serving.Cert)
	p.put(t.Node, kubeadm.ServingKey, 0o600, serving.Key)
	m := machine{name: t.Node, address: t.Address, cluster: t.Cluster, role: "join"}
	if t.Role == inventory.ControlPlane {
		for path, content := range plan.SecretFiles(sec) {
			p.put(t.Node, path, 0o600, content)
		}
	}
	if t.Role == inventory.Worker {
		m.role = "worker"
	}
	config, err := kubeadm.Join(t.Kubeadm, p.tokens[t.Cluster], sec.CA.Cert)
	if t.Init {
		m.role = "init"
		config, err = kubeadm.Init(t.Kubeadm, p.tokens[t.Cluster], time.Hour)
	}
	if err != nil {
		return err
	}
	p.put(t.Node, "/root/kubeadm.yaml", 0o600, string(config))
	if t.VIP != nil {
		p.put(t.Node, "/root/kube-vip.yaml", 0o600, t.VIP.Manifest)
		p.put(t.Node, "/root/vip", 0o600, t.VIP.Address+"/32 dev "+t.VIP.Interface)
	}
	p.machines = append(p.machines, m)
	return nil
}

// write makes the files that the script reads.
func (p *preparation) write() error {
	var list strings.Builder
	for _, m := range p.machines {
		fmt.Fprintf(&list, "%s %s %s %s\n", m.name, m.address, m.cluster, m.role)
		if err := p.archive(m.name+".tar", p.files[m.name]); err != nil {
			return err
		}
		if err := p.text(m.name+".prepare", p.scripts[m.name]); err != nil {
			return err
		}
	}
	for c, objects := range p.objects {
		if err := p.text(string(c)+".yaml", objects); err != nil {
			return err
		}
	}
	return errors.Join(p.text("machines", list.String()), p.text("baseline.sh", script))
}

func (p *preparation) text(name, content string) error {
	return os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600)
}

// images makes an image archive for a kind of node, once.
func (p *preparation) images(t plan.ImportImages) error {
	kind, cluster := inventory.Role(""), inventory.ClusterName("")
	for _, c := range p.site.Inventory.ClusterNames() {
		for _, n := range p.site.Inventory.Cluster(c).Nodes {
			if n.Name == t.Node {
				kind, cluster = n.Role, c
			}
		}
	}
	name := fmt.Sprintf("images-%s-%s.tar", cluster, kind)
	if _, err := os.Stat(filepath.Join(p.dir, name)); err == nil {
		return nil
	}
	files := []file{{path: "oci-layout", mode: 0o644, content: `{"imageLayoutVersion":"1.0.0"}`}}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	seen := map[string]bool{}
	for _, img := range t.Images {
		d, err := p.descriptor(img)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, d)
		for _, b := range img.Blobs {
			if !seen[b] {
				seen[b] = true
				files = append(files, file{path: path.Join("blobs/sha256", strings.TrimPrefix(b, "sha256:")), mode: 0o644, digest: b})
			}
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return p.archive(name, append(files, file{path: "index.json", mode: 0o644, content: string(data)}))
}

func (p *preparation) descriptor(img bundle.Image) (v1.Descriptor, error) {
	content, size, err := p.site.Bundle.Content(img.Digest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer content.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(content)
	if err != nil {
		return v1.Descriptor{}, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return v1.Descriptor{}, err
	}
	h, err := v1.NewHash(img.Digest)
	return v1.Descriptor{
		MediaType: m.MediaType, Size: size, Digest: h, Annotations: map[string]string{"io.containerd.image.name": img.Ref},
	}, err
}

// archive writes a tar of files.
func (p *preparation) archive(name string, files []file) (err error) {
	f, err := os.OpenFile(filepath.Join(p.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for _, x := range files {
		content, size := io.NopCloser(strings.NewReader(x.content)), int64(len(x.content))
		if x.digest != "" {
			if content, size, err = p.site.Bundle.Content(x.digest); err != nil {
				return err
			}
		}
		err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(x.path, "/"), Mode: x.mode, Size: size, ModTime: time.Now(), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.Copy(w, content)
		}
		if err = errors.Join(err, content.Close()); err != nil {
			return fmt.Errorf("%s: %s: %w", name, x.path, err)
		}
	}
	return w.Close()
}

func (b baseline) names() []string {
	var out []string
	for _, m := range b.machines {
		out = append(out, m.name)
	}
	return out
}

// run runs the script.
func (b baseline) run(ctx context.Context, _ lab) error {
	c := exec.CommandContext(ctx, "bash", "baseline.sh", b.dir)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "KEY="+b.status.KeyFile, "KNOWN_HOSTS="+b.status.KnownHosts)
	out, err := c.CombinedOutput()
	if err == nil {
		return nil
	}
	said := []string{string(out)}
	for _, m := range b.machines {
		log, _ := os.ReadFile(filepath.Join(b.dir, m.name+".log")) // best effort: it may not have begun
		said = append(said, m.name+":", string(log[max(0, len(log)-2000):]))
	}
	return fmt.Errorf("%w\n%s", err, strings.Join(said, "\n"))
}

// check asks each cluster whether what both contenders promise is there.
func (b baseline) check(ctx context.Context, l lab) error {
	for _, m := range b.machines {
		if m.role != "init" {
			continue
		}
		const ask = `k="kubectl --kubeconfig /etc/kubernetes/admin.conf"
$k get nodes --no-headers | awk '{ print $2 }'
echo --
$k get pods -A --no-headers | awk '$4 != "Running" && $4 != "Completed" { print $2, $4 }'`
		c := exec.CommandContext(ctx, l.binary, "--dir", l.dir, "--name", l.name, "ssh", m.name, ask)
		out, err := c.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		states, pods, _ := strings.Cut(string(out), "--\n")
		want := 0
		for _, x := range b.machines {
			if x.cluster == m.cluster {
				want++
			}
		}
		if states != strings.Repeat("Ready\n", want) {
			return fmt.Errorf("%s: expected %d nodes Ready, found %q", m.cluster, want, states)
		}
		if pods != "" {
			return fmt.Errorf("%s: these pods do not run:\n%s", m.cluster, pods)
		}
	}
	return nil
}
