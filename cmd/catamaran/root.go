package main

import (
	"fmt"
	"os"
	"os/user"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/external"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
	"github.com/catamaran-k8s/catamaran/provider/openstack"
	"github.com/catamaran-k8s/catamaran/provider/vsphere"
)

// global are the flags that every command understands.
type global struct {
	inventory string
	bundle    string
	progress  string
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:           "catamaran",
		Short:         "Two Kubernetes clusters out of a list of machines",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringVarP(&g.inventory, "inventory", "f", "inventory.yaml", "the inventory file")
	f.StringVar(&g.bundle, "bundle", "", "the bundle to install from, instead of the inventory's")
	f.StringVar(&g.progress, "progress", "auto", "how to show progress: auto, live, plain, json or none")
	root.AddCommand(
		newPlan(g), newApply(g), newStatus(g), newReset(g), newDestroy(g),
		newKubeconfig(g), newSSH(g), newTrust(g),
		newInventory(g), newBundle(g), newCharts(g), newJournal(g), newVerify(g), newLogs(g), newMetrics(g), newReport(g),
	)
	return root
}

// open reads the site that the global flags name.
func (g *global) open() (*bootstrap.Site, error) { return bootstrap.Open(g.inventory, g.options()) }

func (g *global) options() bootstrap.Options {
	return bootstrap.Options{Bundle: g.bundle, Operator: operator(), Providers: providers()}
}

// providers are those that this program has.
func providers() provider.Registry {
	return provider.Registry{
		"onprem":    onprem.New(),
		"openstack": openstack.New(openstack.Options{}),
		"vsphere":   vsphere.New(os.Getenv),
		"external":  external.New(external.Options{Log: func(line string) { fmt.Fprintln(os.Stderr, "provider: "+line) }}),
	}
}

// operator is the person behind this run: who typed sudo, else the login user.
func operator() string {
	if u := os.Getenv("SUDO_USER"); u != "" {
		return u
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// confirm asks on the terminal; without one it refuses and says which flag answers.
func confirm(question string) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, fmt.Errorf("%s: there is no terminal to ask on; say --yes", question)
	}
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	var answer string
	_, _ = fmt.Scanln(&answer) // no answer is a no
	return answer == "y" || answer == "yes", nil
}
