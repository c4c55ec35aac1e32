package bootstrap

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// localFacts reads what the planner may know of the vault and the site folder.
func (s *Site) localFacts() (plan.LocalFacts, error) {
	l := plan.LocalFacts{
		Vault:       map[inventory.ClusterName]plan.VaultFacts{},
		Kubeconfigs: map[inventory.ClusterName]plan.KubeconfigFacts{},
	}
	for _, c := range s.Inventory.ClusterNames() {
		if sec, err := s.secrets(c); err == nil {
			l.Vault[c] = plan.VaultFactsOf(sec)
		}
		k, err := readKubeconfig(plan.KubeconfigPath(s.Inventory.SiteDir(), c))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return l, err
		}
		l.Kubeconfigs[c] = k
	}
	return l, nil
}

func readKubeconfig(path string) (plan.KubeconfigFacts, error) {
	if _, err := os.Stat(path); err != nil {
		return plan.KubeconfigFacts{}, err
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return plan.KubeconfigFacts{}, fmt.Errorf("%s: %w; remove it and apply again", path, err)
	}
	kctx := cfg.Contexts[cfg.CurrentContext]
	if kctx == nil || cfg.Clusters[kctx.Cluster] == nil || cfg.AuthInfos[kctx.AuthInfo] == nil {
		return plan.KubeconfigFacts{}, nil // reads as outdated, and is written anew
	}
	f := plan.KubeconfigFacts{
		Server: cfg.Clusters[kctx.Cluster].Server,
		CA:     string(cfg.Clusters[kctx.Cluster].CertificateAuthorityData),
	}
	f.NotAfter = notAfter(cfg.AuthInfos[kctx.AuthInfo].ClientCertificateData)
	return f, nil
}

func notAfter(data []byte) time.Time {
	block, _ := pem.Decode(data)
	if block == nil {
		return time.Time{}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}

// errNoSecrets says that the vault has nothing of a cluster yet.
var errNoSecrets = errors.New("the vault holds no secrets of this cluster")

func (s *Site) secrets(c inventory.ClusterName) (pki.ClusterSecrets, error) {
	if s.vault == nil {
		return pki.ClusterSecrets{}, errNoSecrets
	}
	sec, ok := s.vault.Cluster(string(c))
	if !ok {
		return pki.ClusterSecrets{}, errNoSecrets
	}
	return sec, nil
}

func (s *Site) makeSecrets(c inventory.ClusterName) (pki.ClusterSecrets, error) {
	if err := s.ensureVault(); err != nil {
		return pki.ClusterSecrets{}, err
	}
	sec, err := pki.NewClusterSecrets()
	if err != nil {
		return sec, err
	}
	s.vault.SetCluster(string(c), sec)
	return sec, s.vault.Save()
}

// ensureVault begins a vault where there is none.
func (s *Site) ensureVault() error {
	if s.vault != nil {
		return nil
	}
	v, err := pki.Create(s.Inventory.VaultFile(), s.Inventory.IdentityFile(), s.Inventory.Metadata.Name, s.Inventory.Vault.Recipients)
	if err == nil {
		s.vault = v
	}
	return err
}

// platformSecrets are the vault's secrets of the compliance platform; what is missing is made and saved before anybody
// sees it.
func (s *Site) platformSecrets(passwords []string) (pki.PlatformSecrets, error) {
	if err := s.ensureVault(); err != nil {
		return pki.PlatformSecrets{}, err
	}
	p, ok := s.vault.Platform()
	if !ok {
		var err error
		if p, err = pki.NewPlatformSecrets(); err != nil {
			return p, err
		}
	}
	changed := !ok
	for _, name := range passwords {
		if _, there := p.Passwords[name]; there {
			continue
		}
		password, err := pki.NewPassword()
		if err != nil {
			return p, err
		}
		p.Passwords[name], changed = password, true
	}
	if !changed {
		return p, nil
	}
	s.vault.SetPlatform(p)
	return p, s.vault.Save()
}

// platformSecretsAlone is platformSecrets of a command that does not hold the site's lock: where something must be made
// it takes the lock and reads the vault again, so that nothing that another run saves is lost.
func (s *Site) platformSecretsAlone(command string, passwords ...string) (pki.PlatformSecrets, error) {
	if s.vault != nil {
		if p, ok := s.vault.Platform(); ok && hasAll(p.Passwords, passwords) {
			return p, nil
		}
	}
	lock, err := plan.Acquire(s.Inventory.SiteDir(), s.holder(command))
	if err != nil {
		return pki.PlatformSecrets{}, err
	}
	defer lock.Release()
	if err := s.openVault(); err != nil {
		return pki.PlatformSecrets{}, err
	}
	return s.platformSecrets(passwords)
}

// platformFacts digests every Secret that the inventory wants. A file or a variable that the inventory names and that is
// not there is an error: it would be one in the middle of an apply otherwise.
func (s *Site) platformFacts(releases map[inventory.ClusterName][]embedded.Release) (*plan.PlatformFacts, error) {
	var vault pki.PlatformSecrets
	known := false
	if s.vault != nil {
		vault, known = s.vault.Platform()
	}
	f := &plan.PlatformFacts{Digests: map[string]string{}, ServiceCA: vault.ServiceCA.Cert}
	for _, c := range s.Inventory.ClusterNames() {
		for _, r := range releases[c] {
			for _, secret := range r.Secrets {
				if err := secret.Check(); err != nil {
					return nil, err
				}
				if !known || !hasAll(vault.Passwords, secret.Passwords()) {
					continue
				}
				digest, err := plan.SecretDigest(secret, vault)
				if err != nil {
					return nil, err
				}
				f.Digests[plan.SecretID(secret)] = digest
			}
		}
	}
	if !known {
		return nil, nil //nolint:nilnil // no secrets yet is no error
	}
	return f, nil
}

func hasAll(passwords map[string]string, names []string) bool {
	for _, n := range names {
		if _, ok := passwords[n]; !ok {
			return false
		}
	}
	return true
}

// auditPolicy is the cluster's audit policy: the site's file or the built-in one.
func (s *Site) auditPolicy(c inventory.ClusterName) (string, error) {
	file := s.Inventory.Cluster(c).APIServer.AuditPolicyFile
	if file == "" {
		return kubeadm.AuditPolicy(), nil
	}
	data, err := os.ReadFile(file)
	return string(data), err
}

func (s *Site) releases(ctx context.Context, c inventory.ClusterName) ([]embedded.Release, error) {
	return embedded.Releases(ctx, s.Inventory, c)
}

// holder names this run for locks.
func (s *Site) holder(command string) plan.Holder {
	h, _ := os.Hostname() // an empty name is still a holder
	return plan.Holder{User: s.Operator, Host: h, PID: os.Getpid(), Since: time.Now(), Command: command}
}
