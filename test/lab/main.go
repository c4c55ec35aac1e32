// Lab makes real hosts on this machine: system containers that look like servers, for the product to be run against.
//
//	go run ./test/lab up --hosts 4
//	go run ./test/lab ssh sc-cp-1
//	go run ./test/lab down --purge
//
// See README.md beside this file.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/openstack"
	"github.com/catamaran-k8s/catamaran/test/lab/vsphere"
)

func main() {
	hosts.Reexec()     // a copy of this program may be a host's supervisor
	openstack.Reexec() // or a cloud's
	vsphere.Reexec()   // or the vCenter
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// global are the flags that every command understands.
type global struct {
	dir   string
	name  string
	began time.Time
}

// log prints one line of progress, with the seconds since the command began.
func (g *global) log(line string) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(g.began).Seconds(), line)
}

func newRoot() *cobra.Command {
	g := &global{began: time.Now()}
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Real hosts on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&g.dir, "dir", hosts.DefaultDir, "the lab's folder: disks, keys, inventory")
	f.StringVar(&g.name, "name", hosts.DefaultName, "the lab's name, which is also its bridge's")
	root.AddCommand(newUp(g), newDown(g), newBuild(g), newStatus(g), newInventory(g), newSSH(g), newOpenStack(g), newVSphere(g))
	for _, c := range controls {
		root.AddCommand(newControl(g, c))
	}
	return root
}
