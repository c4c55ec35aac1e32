package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// network holds the addresses of the machines that are played. They may not be loopback's: the inventory refuses
// addresses that nodes can not reach each other by.
const network = "10.79.0.0/16"

// inside marks the process that runs in the namespace.
const inside = "CATAMARAN_BENCH_NAMESPACE"

// errSaid says that the process inside failed and has said why.
var errSaid = errors.New("failed inside the network namespace")

// isolated runs f in a new network namespace in which every address of network is this machine's own. Nothing in it
// can reach, or be reached from, anywhere else.
func isolated(f func() error) error {
	if os.Getenv(inside) != "" {
		if err := ownAll(network); err != nil {
			return fmt.Errorf("set up the network namespace: %w", err)
		}
		return f()
	}
	if os.Geteuid() != 0 {
		return errors.New("a network namespace needs root: run it as root")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var ended *exec.ExitError
	err = c.Run()
	if errors.As(err, &ended) {
		return errSaid
	}
	return err
}

// ownAll raises loopback and makes a whole network local to it.
func ownAll(cidr string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}
