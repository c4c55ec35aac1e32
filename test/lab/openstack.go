package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/test/lab/openstack"
)

// newOpenStack is a cloud beside the lab, with a folder and a name of its own.
func newOpenStack(g *global) *cobra.Command {
	o := openstack.Options{Log: g.log}
	var subnet string
	c := &cobra.Command{
		Use:   "openstack",
		Short: "A real OpenStack on this machine, whose servers become hosts",
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			if o.Subnet, err = netip.ParsePrefix(subnet); err != nil {
				return fmt.Errorf("--subnet: %w", err)
			}
			return nil
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&o.Dir, "dir", openstack.DefaultDir, "the cloud's folder: database, logs, clouds.yaml, servers' disks")
	f.StringVar(&o.Name, "name", openstack.DefaultName, "the name of the servers' bridge")
	f.IntVar(&o.Base, "base", openstack.DefaultBase, "the first of 20 TCP ports")
	f.StringVar(&subnet, "subnet", openstack.DefaultSubnet, "the servers' network, a /23: the first half is for servers, the second for floating addresses")
	c.AddCommand(newOpenStackInstall(g), newOpenStackUp(&o), newOpenStackDown(g, &o), newOpenStackStatus(&o))
	return c
}

func newOpenStackInstall(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "install",
		Short: "Install what the machine lacks (Debian packages)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := openstack.Install(c.Context(), g.log, os.Stderr); err != nil {
				return err
			}
			g.log("everything is installed")
			return nil
		},
	}
}

func newOpenStackUp(o *openstack.Options) *cobra.Command {
	c := &cobra.Command{
		Use:   "up",
		Short: "Start OpenStack and return when it answers; print where its clouds.yaml is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := openstack.Up(c.Context(), *o); err != nil {
				return err
			}
			fmt.Println(o.CloudsFile())
			return nil
		},
	}
	c.Flags().IntVar(&o.Computes, "computes", openstack.DefaultComputes, "compute hosts, one in each availability zone")
	return c
}

func newOpenStackDown(g *global, o *openstack.Options) *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Take OpenStack and its servers' hosts down; what they are stays for the next `up`",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := openstack.Down(c.Context(), *o, purge); err != nil {
				return err
			}
			g.log("OpenStack is down, and nothing is left of it in the kernel")
			return nil
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove its folder too; servers' hosts are cut off, not shut down")
	return c
}

func newOpenStackStatus(o *openstack.Options) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "What the daemons and the servers' hosts do",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := openstack.Look(*o)
			if err != nil {
				return err
			}
			switch output {
			case "":
				return printOpenStack(s)
			case "json":
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(s)
			default:
				return fmt.Errorf("-o %s: expected json", output)
			}
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json: for programs")
	return c
}

func printOpenStack(s openstack.Status) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	var sum int64
	_, _ = fmt.Fprintln(w, "DAEMON\tPID\tSTATE\tMEMORY") // the writer keeps the error for Flush
	for _, d := range s.Daemons {
		state := "runs"
		if !d.Runs {
			state = "has ended"
		}
		sum += d.Bytes
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%d MiB\n", d.Name, d.PID, state, d.Bytes>>20)
	}
	_, _ = fmt.Fprintf(w, "all\t\t\t%d MiB\n\nHOST\tADDRESS\tPOWER\tSERVER\tPROBLEM\n", sum>>20)
	for _, h := range s.Guests {
		power := "off"
		if h.Runs {
			power = "on"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", h.Name, h.Address, power, h.ID, orDash(h.Error))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case s.Running && !s.Ready.IsZero():
		fmt.Printf("up at %s since %s (it took %.0f s); %s\n", s.AuthURL, s.Ready.Format("15:04:05"), s.Seconds, s.Clouds)
	case s.Running:
		fmt.Println("starting")
	case s.Failed != "":
		fmt.Println("did not come up:", s.Failed)
	default:
		fmt.Println("down")
	}
	return nil
}
