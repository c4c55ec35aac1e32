package plan

import (
	"context"
	"fmt"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// servingValidity is how long kubelet serving certificates live; apply renews them servingRenewal before the end.
// One year is what kubeadm gives its own certificates.
const (
	servingValidity = 365 * 24 * time.Hour
	servingRenewal  = 60 * 24 * time.Hour
)

// JoinTokenTTL bounds the life of the bootstrap token of one apply.
const JoinTokenTTL = time.Hour

// MakeMember runs kubeadm init or join on a node that has been prepared.
type MakeMember struct {
	Cluster inventory.ClusterName
	Node    string
	Role    inventory.Role
	Address string
	// Init founds the cluster; otherwise the node joins.
	Init bool
	// Config is the kubeadm configuration without secrets; it stays on the node for later plans to compare.
	Config string
	// Kubeadm renders the configuration with the token, when the task is done.
	Kubeadm kubeadm.Input `json:"-"`
	// Member is the content of the file that marks the node as ours.
	Member string
	// VIP is nil where the endpoint is none, and on workers.
	VIP *VIP
}

// VIP is a cluster's virtual address on one control plane.
type VIP struct {
	Address, Interface string
	// Manifest is kube-vip's static pod.
	Manifest string
}

// Do implements Task.
func (t MakeMember) Do(ctx context.Context, env Env, log func(string)) error {
	secrets, err := env.Secrets(t.Cluster)
	if err != nil {
		return err
	}
	config, err := t.config(ctx, env, secrets)
	if err != nil {
		return err
	}
	serving, err := pki.KubeletServing(secrets.CA, t.Node, t.Address, time.Now().Add(-5*time.Minute), servingValidity)
	if err != nil {
		return err
	}
	s := newStaging()
	s.put(servingCert, 0o644, serving.Cert)
	s.put(servingKey, 0o600, serving.Key)
	if t.Role == inventory.ControlPlane {
		for p, content := range SecretFiles(secrets) {
			mode := uint32(0o600)
			if strings.HasSuffix(p, ".crt") || strings.HasSuffix(p, ".pub") {
				mode = 0o644
			}
			s.put(p, mode, content)
		}
	}
	s.keep("kubeadm.yaml", string(config))
	s.keep("config.yaml", t.Config)
	s.keep("member.json", t.Member)
	if t.VIP != nil {
		s.keep("kube-vip.yaml", t.VIP.Manifest)
	}
	name := "join"
	if t.Init {
		name = "init"
	}
	return runUnit(ctx, env, t.Node, name, t.script(s), s.files, log)
}

// config renders kubeadm's configuration with the token.
func (t MakeMember) config(ctx context.Context, env Env, secrets pki.ClusterSecrets) ([]byte, error) {
	if t.Init {
		token, err := env.FoundingToken(t.Cluster)
		if err != nil {
			return nil, err
		}
		return kubeadm.Init(t.Kubeadm, token, JoinTokenTTL)
	}
	token, err := env.JoinToken(ctx, t.Cluster)
	if err != nil {
		return nil, err
	}
	return kubeadm.Join(t.Kubeadm, token, secrets.CA.Cert)
}

// script takes back what a cut-off attempt left, places the secrets and runs kubeadm.
func (t MakeMember) script(s *staging) string {
	var b strings.Builder
	fmt.Fprintf(&b, `set -eu
umask 077
if [ -e %[1]s ] && [ ! -e %[2]s ]; then
  echo "an earlier attempt was cut off: resetting first"
  kubeadm reset --force --cri-socket %[3]s
fi
: > %[1]s
`, attemptFile, memberFile, kubeadm.CRISocket)
	b.WriteString(s.install())
	if t.Init {
		if t.VIP != nil {
			// kubeadm speaks to the endpoint while nobody can carry it yet; kube-vip takes it over
			fmt.Fprintf(&b, "ip addr replace %s dev %s\n", hostPrefix(t.VIP.Address), t.VIP.Interface)
		}
		fmt.Fprintf(&b, "kubeadm init --config \"$UNIT_DIR/kubeadm.yaml\" --skip-phases %s\n", kubeadm.SkipPhasesInit)
	} else {
		b.WriteString("kubeadm join --config \"$UNIT_DIR/kubeadm.yaml\"\n")
	}
	if t.VIP != nil {
		b.WriteString(replaceFile("kube-vip.yaml", kubeVIPFile, "0600"))
	}
	b.WriteString(replaceFile("config.yaml", kubeadmFile, "0600"))
	b.WriteString(replaceFile("member.json", memberFile, "0644"))
	fmt.Fprintf(&b, "rm -f %s\n", attemptFile)
	return b.String()
}

// hostPrefix is an address as a network of its own.
func hostPrefix(address string) string {
	if strings.Contains(address, ":") {
		return address + "/128"
	}
	return address + "/32"
}

// replaceFile installs a staged file beside its destination and renames it. The beside name starts with a dot, so
// that kubelet ignores it in the manifests folder.
func replaceFile(staged, dest, mode string) string {
	beside := path.Join(path.Dir(dest), "."+path.Base(dest)+".new")
	return fmt.Sprintf("install -D -m %s \"$UNIT_DIR/%s\" %s && mv -f %s %s\n", mode, staged, beside, beside, dest)
}

// SecretFiles are the files of a cluster's secrets on its control planes, by path.
func SecretFiles(s pki.ClusterSecrets) map[string]string {
	const dir = "/etc/kubernetes/pki/"
	return map[string]string{
		dir + "ca.crt": s.CA.Cert, dir + "ca.key": s.CA.Key,
		dir + "front-proxy-ca.crt": s.FrontProxyCA.Cert, dir + "front-proxy-ca.key": s.FrontProxyCA.Key,
		dir + "etcd/ca.crt": s.EtcdCA.Cert, dir + "etcd/ca.key": s.EtcdCA.Key,
		dir + "sa.pub": s.ServiceAccount.Cert, dir + "sa.key": s.ServiceAccount.Key,
		encryptionFile: kubeadm.EncryptionConfiguration(s.EncryptionKey),
	}
}

// staging collects files that travel in a unit's private folder and are installed by its script.
type staging struct {
	files map[string][]byte
	dest  map[string]string // staged name -> path
	mode  map[string]uint32
}

func newStaging() *staging {
	return &staging{files: map[string][]byte{}, dest: map[string]string{}, mode: map[string]uint32{}}
}

// keep stages a file that the script uses itself.
func (s *staging) keep(name, content string) { s.files[name] = []byte(content) }

// put stages a file and has install place it at dest.
func (s *staging) put(dest string, mode uint32, content string) {
	name := strings.ReplaceAll(strings.TrimPrefix(dest, "/"), "/", "_")
	s.files[name], s.dest[name], s.mode[name] = []byte(content), dest, mode
}

// install is the script that places everything that was put.
func (s *staging) install() string {
	names := make([]string, 0, len(s.dest))
	for n := range s.dest {
		names = append(names, n)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		b.WriteString(replaceFile(n, s.dest[n], fmt.Sprintf("%#o", s.mode[n])))
	}
	return b.String()
}
