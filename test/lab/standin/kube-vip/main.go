// A STAND-IN for kube-vip, whose module can not be built here (its checksum is not in the checksum database that is
// reached). It reads the environment of the manifest that the product writes and does what kube-vip does in ARP mode:
// whoever holds the lease carries the address and announces it. It proves the product's manifest, timing and kubeconfig
// handling; it proves nothing about kube-vip itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	vip := net.ParseIP(os.Getenv("address"))
	if vip == nil {
		return fmt.Errorf("address=%q is not an IP address", os.Getenv("address"))
	}
	link, err := netlink.LinkByName(os.Getenv("vip_interface"))
	if err != nil {
		return fmt.Errorf("vip_interface=%q: %w", os.Getenv("vip_interface"), err)
	}
	a := &announcer{link: link, addr: &netlink.Addr{IPNet: &net.IPNet{IP: vip, Mask: net.CIDRMask(32, 32)}}}
	// what a killed predecessor left must not linger while another node holds the lease
	if err := a.drop(); err != nil {
		return err
	}
	defer a.drop() //nolint:errcheck // the process ends; the next start drops it again

	// the manifest mounts the node's kubeconfig here, and its hostAliases make "kubernetes" this node
	cfg, err := clientcmd.BuildConfigFromFlags("", "/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	cfg.Host = "https://kubernetes:" + envOr("port", "6443")
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Name: envOr("vip_leasename", "plndr-cp-lock"), Namespace: envOr("cp_namespace", "kube-system")},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: envOr("vip_nodename", hostname())},
	}
	for ctx.Err() == nil {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: lock, ReleaseOnCancel: true,
			LeaseDuration: seconds("vip_leaseduration", 15), RenewDeadline: seconds("vip_renewdeadline", 10), RetryPeriod: seconds("vip_retryperiod", 2),
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: a.carry,
				OnStoppedLeading: func() {
					if err := a.drop(); err != nil {
						log.Print(err)
					}
				},
			},
		})
	}
	return nil
}

// announcer carries the address on a link.
type announcer struct {
	link netlink.Link
	addr *netlink.Addr
}

func (a *announcer) carry(ctx context.Context) {
	if err := netlink.AddrReplace(a.link, a.addr); err != nil {
		log.Printf("carry %s: %v", a.addr.IP, err)
		return
	}
	log.Printf("carrying %s", a.addr.IP)
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		if err := announce(a.link, a.addr.IP); err != nil {
			log.Printf("announce %s: %v", a.addr.IP, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *announcer) drop() error {
	err := netlink.AddrDel(a.link, a.addr)
	if err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("drop %s: %w", a.addr.IP, err)
	}
	return nil
}

// announce sends one gratuitous ARP request (RFC 5227 section 3), so that neighbours learn the new owner.
func announce(link netlink.Link, ip net.IP) error {
	mac := link.Attrs().HardwareAddr
	if len(mac) != 6 || ip.To4() == nil {
		return fmt.Errorf("needs Ethernet and IPv4, got %s and %s", mac, ip)
	}
	frame := make([]byte, 0, 42)
	frame = append(frame, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	frame = append(frame, mac...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(frame, mac...)
	frame = append(frame, ip.To4()...)
	frame = append(frame, 0, 0, 0, 0, 0, 0)
	frame = append(frame, ip.To4()...)
	const arp = 0x0608 // ETH_P_ARP in network byte order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, arp)
	if err != nil {
		return err
	}
	defer syscall.Close(fd) //nolint:errcheck // nothing is buffered
	return syscall.Sendto(fd, frame, 0, &syscall.SockaddrLinklayer{Protocol: arp, Ifindex: link.Attrs().Index, Halen: 6})
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func seconds(name string, otherwise int) time.Duration {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		otherwise = n
	}
	return time.Duration(otherwise) * time.Second
}

func hostname() string {
	h, _ := os.Hostname() // an empty identity is refused by the lock
	return h
}
