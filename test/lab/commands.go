package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

// control is a command that does something to hosts by name.
type control struct {
	use, short, done string
	do               func(l *hosts.Lab, ctx context.Context, names ...string) error
}

var controls = []control{
	{"stop", "Power hosts off in order", "is off", (*hosts.Lab).Stop},
	{"start", "Boot hosts and wait until they answer", "is up", (*hosts.Lab).Start},
	{"kill", "Cut the power of hosts", "is off", (*hosts.Lab).Kill},
	{"pause", "Freeze hosts", "is paused", (*hosts.Lab).Pause},
	{"resume", "Let paused hosts go on", "goes on", (*hosts.Lab).Resume},
	{"partition", "Pull the network cables of hosts", "is unplugged", (*hosts.Lab).Partition},
	{"heal", "Plug them in again", "is plugged in", (*hosts.Lab).Heal},
	{"reset", "Give hosts a fresh disk; name, address and host key stay", "has a fresh disk", (*hosts.Lab).Reset},
}

func newControl(g *global, x control) *cobra.Command {
	return &cobra.Command{
		Use: x.use + " NAME...", Short: x.short, Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			l, err := hosts.Open(g.dir)
			if err != nil {
				return err
			}
			if err := x.do(l, c.Context(), names...); err != nil {
				return err
			}
			for _, n := range names {
				g.log(n + " " + x.done)
			}
			return nil
		},
	}
}

func newDown(g *global) *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Power everything off and remove it from the kernel; the disks stay for the next `up`",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := hosts.Down(c.Context(), g.dir, g.name, purge, g.log); err != nil {
				return err
			}
			g.log("the lab is down, and nothing is left of it in the kernel")
			return nil
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the disks, the keys and the inventory too; hosts are cut off, not shut down")
	return c
}

func newStatus(g *global) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "What each host does",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := hosts.Open(g.dir)
			if err != nil {
				return err
			}
			switch output {
			case "":
				return printStatus(c.Context(), l)
			case "json":
				s, err := l.Status(c.Context())
				if err != nil {
					return err
				}
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

func printStatus(ctx context.Context, l *hosts.Lab) error {
	s, err := l.Status(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "HOST\tCLUSTER\tROLE\tADDRESS\tPOWER\tSSH\tUP\tMEMORY") // the writer keeps the error for Flush
	for _, h := range s.Hosts {
		power, ssh, up := string(h.Power), "no", "-"
		if h.Partitioned {
			power += ", unplugged"
		}
		if h.Answers {
			ssh = "answers"
		}
		if h.Power != hosts.Off {
			up = time.Since(h.Booted).Round(time.Second).String()
		} else if h.Ended != "" {
			power += " (" + h.Ended + ")"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d MiB\n",
			h.Name, orDash(string(h.Cluster)), orDash(string(h.Role)), h.Address, power, ssh, up, h.UsedBytes>>20)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("inventory: %s\n", s.Inventory)
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newInventory(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "inventory",
		Short: "Print the inventory of the lab as it is now",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := hosts.Open(g.dir)
			if err != nil {
				return err
			}
			data, err := l.Render(c.Context())
			if err != nil {
				return err
			}
			if data == nil {
				return errors.New("the lab has no cluster, only spare hosts")
			}
			_, err = os.Stdout.Write(data)
			return err
		},
	}
}

func newSSH(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "ssh [USER@]NAME [COMMAND...]",
		Short: "Log in to a host (as root), or run a command there",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := hosts.Open(g.dir)
			if err != nil {
				return err
			}
			user, name, found := strings.Cut(args[0], "@")
			if !found {
				user, name = "root", args[0]
			}
			h, err := l.Host(name)
			if err != nil {
				return err
			}
			path, err := exec.LookPath("ssh")
			if err != nil {
				return err
			}
			argv := []string{
				"ssh", "-F", "none", "-i", l.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
				"-o", "UserKnownHostsFile=" + l.KnownHosts(), "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
				"-o", "ConnectTimeout=5", user + "@" + h.Address.String(),
			}
			return syscall.Exec(path, append(argv, args[1:]...), os.Environ())
		},
	}
	c.Flags().SetInterspersed(false) // the command's flags are its own
	return c
}
