package vsphere

// What cloud-init in the guest is told: who may sign in, the machine's name, its SSH host key and its address.

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// hostKey is an SSH host key that is made before its machine, so that the first connection is verified already.
type hostKey struct{ private, public string }

func newHostKey(name string) (hostKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return hostKey{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		return hostKey{}, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return hostKey{}, err
	}
	return hostKey{private: string(pem.EncodeToMemory(block)), public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}, nil
}

// guestSettings are the settings by which cloud-init's VMware data source finds the user data and the metadata. It overwrites the user
// data, which holds the private host key, as soon as it has read it.
func guestSettings(name, instance, user string, authorized []string, key *hostKey, network map[string]any) (map[string]string, error) {
	userData, err := yaml.Marshal(cloudConfig(name, user, authorized, key))
	if err != nil {
		return nil, err
	}
	meta := map[string]any{"instance-id": instance, "local-hostname": name, "cleanup-guestinfo": []string{"userdata"}, "network": network}
	metaData, err := json.Marshal(meta) // JSON is YAML
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"guestinfo.userdata":          base64.StdEncoding.EncodeToString(append([]byte("#cloud-config\n"), userData...)),
		"guestinfo.userdata.encoding": "base64",
		"guestinfo.metadata":          base64.StdEncoding.EncodeToString(metaData),
		"guestinfo.metadata.encoding": "base64",
	}, nil
}

// cloudConfig lets user in with its keys only, and as root by sudo without a password.
func cloudConfig(name, user string, authorized []string, key *hostKey) map[string]any {
	account := map[string]any{"name": user, "ssh_authorized_keys": authorized, "lock_passwd": true}
	if user != "root" {
		account["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
		account["shell"] = "/bin/bash"
	}
	out := map[string]any{
		"hostname": name, "preserve_hostname": false, "ssh_pwauth": false, "disable_root": user != "root", "users": []any{account},
	}
	if key != nil {
		out["ssh_deletekeys"] = true
		out["ssh_keys"] = map[string]string{"ed25519_private": key.private, "ed25519_public": key.public}
	}
	return out
}

// guestNetwork is the network configuration (version 2): a static address, or DHCP. The card has no name or MAC address yet; there is
// only one, which spec makes sure of.
func guestNetwork(address string, w inventory.VSphereMachine) map[string]any {
	card := map[string]any{"match": map[string]string{"name": "e*"}}
	if !isStatic(address, w) {
		card["dhcp4"] = true
		card["dhcp-identifier"] = "mac" // machines of one template must not ask with one machine ID
	} else {
		everywhere := "0.0.0.0/0"
		if a, err := netip.ParseAddr(address); err == nil && a.Is6() {
			everywhere = "::/0"
		}
		card["dhcp4"] = false
		card["addresses"] = []string{fmt.Sprintf("%s/%d", address, w.Prefix)}
		card["routes"] = []map[string]string{{"to": everywhere, "via": w.Gateway}}
		if len(w.DNS) > 0 {
			card["nameservers"] = map[string]any{"addresses": w.DNS}
		}
	}
	return map[string]any{"version": 2, "ethernets": map[string]any{"nodes": card}}
}

// isStatic tells whether the machine is given its address, instead of asking DHCP for one.
func isStatic(address string, w inventory.VSphereMachine) bool {
	return address != "" && w.Gateway != "" && w.Prefix > 0
}
