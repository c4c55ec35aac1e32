// Command vagrant writes an inventory of the machines that the Vagrantfile made, with their host keys pinned, for the e2e
// tests (E2E_INVENTORY).
//
//	go run ./test/vagrant [-bundle FILE] [-out .cache/vagrant/site/inventory.yaml]
//
// Without -bundle it builds the lab's. Host keys are asked for through `vagrant ssh`: over the hypervisor's own network, with
// the key that Vagrant gave each machine.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

//go:embed machines.json
var machinesJSON []byte

//go:embed inventory.yaml.tmpl
var inventoryText string

// machine is an entry of machines.json, which the Vagrantfile reads too.
type machine struct {
	Name    string                `json:"name"`
	Cluster inventory.ClusterName `json:"cluster"` // empty: a spare
	Role    inventory.Role        `json:"role"`
	Address string                `json:"address"`
	HostKey string                `json:"-"` // SHA256:...
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vagrant:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("vagrant", flag.ExitOnError)
	bundle := f.String("bundle", "", "the bundle that the machines are installed from; the lab's if empty")
	out := f.String("out", ".cache/vagrant/site/inventory.yaml", "the inventory to write")
	key := f.String("key", ".cache/vagrant/id_ed25519", "the key that the Vagrantfile made")
	_ = f.Parse(args) // ends the process
	machines, err := parse(machinesJSON)
	if err != nil {
		return err
	}
	for i, m := range machines {
		said, err := exec.CommandContext(ctx, "vagrant", "ssh", m.Name, "--no-tty", "-c", "cat /etc/ssh/ssh_host_ed25519_key.pub").Output()
		if err != nil {
			return fmt.Errorf("vagrant ssh %s: %w%s; is it up?", m.Name, err, stderr(err))
		}
		public, _, _, _, err := ssh.ParseAuthorizedKey(said)
		if err != nil {
			return fmt.Errorf("%s: its host key is not a public key: %w", m.Name, err)
		}
		machines[i].HostKey = ssh.FingerprintSHA256(public)
	}
	if *bundle == "" {
		if *bundle, err = build.Bundle(ctx, build.Options{Log: func(l string) { fmt.Fprintln(os.Stderr, l) }}); err != nil {
			return err
		}
	}
	if *key, err = filepath.Abs(*key); err != nil {
		return err
	}
	text, err := render(machines, *bundle, *key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o700); err != nil {
		return err
	}
	if err := pki.WriteFile(*out, text, 0o600); err != nil {
		return err
	}
	fmt.Println(*out)
	return nil
}

// stderr is what a program that failed said.
func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "\n" + strings.TrimSpace(string(exit.Stderr)) + "\n"
	}
	return ""
}

func parse(data []byte) ([]machine, error) {
	var out []machine
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("machines.json: %w", err)
	}
	return out, nil
}

// render writes the inventory.
func render(machines []machine, bundle, key string) ([]byte, error) {
	t, err := template.New("inventory.yaml").Funcs(template.FuncMap{
		"of": func(c inventory.ClusterName) (out []machine) {
			for _, m := range machines {
				if m.Cluster == c {
					out = append(out, m)
				}
			}
			return out
		},
		"node": func(m machine) string {
			return fmt.Sprintf("{name: %s, role: %s, address: %s, hostKey: %q}", m.Name, m.Role, m.Address, m.HostKey)
		},
	}).Parse(inventoryText)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]string{"Kubernetes": build.Versions()[0], "Bundle": bundle, "Key": key})
	return []byte(b.String()), err
}
