package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/test/lab/build"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/vsphere"
)

// newVSphere is `lab vsphere`: a vCenter whose virtual machines are hosts of the lab.
func newVSphere(g *global) *cobra.Command {
	var subnet, bundle, output string
	var bare bool
	c := &cobra.Command{
		Use:   "vsphere",
		Short: "A vCenter (govmomi's simulator) whose virtual machines become hosts",
		// the lab of the vCenter is one of its own
		PersistentPreRun: func(c *cobra.Command, _ []string) {
			if !c.Flags().Changed("dir") {
				g.dir = vsphere.DefaultDir
			}
			if !c.Flags().Changed("name") {
				g.name = vsphere.DefaultName
			}
		},
	}
	up := &cobra.Command{
		Use: "up", Short: "Start the vCenter and write an inventory for it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := vsphere.Options{Dir: g.dir, Name: g.name, Bundle: bundle, Log: g.log}
			var err error
			if o.Subnet, err = netip.ParsePrefix(subnet); err != nil {
				return fmt.Errorf("--subnet: %w", err)
			}
			if !bare && bundle == "" {
				if o.Bundle, err = build.Bundle(c.Context(), build.Options{Kubernetes: hosts.DefaultKubernetes, Log: g.log}); err != nil {
					return err
				}
			}
			s, err := vsphere.Up(c.Context(), o)
			if err != nil {
				return err
			}
			return printVSphere(s)
		},
	}
	up.Flags().StringVar(&subnet, "subnet", vsphere.DefaultSubnet, "the hosts' network, at least a /23; DHCP gives out its second half")
	up.Flags().StringVar(&bundle, "bundle", "", "the bundle for the inventory, instead of building one")
	up.Flags().BoolVar(&bare, "bare", false, "no bundle")
	up.MarkFlagsMutuallyExclusive("bare", "bundle")
	down := &cobra.Command{
		Use: "down", Short: "End the vCenter and remove its hosts with their disks", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return vsphere.Down(c.Context(), g.dir, g.name, g.log) },
	}
	status := &cobra.Command{
		Use: "status", Short: "Where the vCenter answers, what it was asked, and what became of its virtual machines", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := vsphere.Open(c.Context(), g.dir)
			if err != nil {
				return err
			}
			switch output {
			case "":
				return printVSphere(s)
			case "json":
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			return fmt.Errorf("-o %s: expected json", output)
		},
	}
	status.Flags().StringVarP(&output, "output", "o", "", "json: for programs")
	c.AddCommand(up, down, status)
	return c
}

func printVSphere(s vsphere.Status) error {
	fmt.Printf("export GOVC_URL=%s GOVC_USERNAME=%s GOVC_PASSWORD=\"$(cat %s)\" GOVC_TLS_CA_CERTS=%s\n", s.URL, s.User, s.PasswordFile, s.CAFile)
	fmt.Printf("inventory: %s\nrequests: %d\n", s.Inventory, s.Proxy.Total)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "VM\tHOST\tADDRESS\tRUNS\tPROBLEM") // the writer keeps the error for Flush
	for _, v := range s.Guests {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%s\n", v.VM, orDash(v.Name), v.Address, v.Runs, orDash(v.Error))
	}
	return w.Flush()
}
