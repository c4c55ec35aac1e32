// Command idle says what an installed site takes while nobody uses it: the processor time and working set of each pod by the
// metrics API, and what its pods request and may use at most, beside what the platform's size small promises. It only reads.
//
//	go run ./test/bench/idle [-f inventory.yaml] [-samples 4] [-every 20s]
//
// It ends with 1 when the promise is not kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

var errMissed = errors.New("the site takes more than size small promises")

func main() {
	file := flag.String("f", "/var/lib/catamaran-lab/site/inventory.yaml", "the site's inventory; the lab's if not given")
	samples := flag.Int("samples", 4, "how often the metrics are read")
	every := flag.Duration("every", 20*time.Second, "how long from one reading to the next; the metrics are made every 15 s")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *file, *samples, *every)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string, samples int, every time.Duration) error {
	if samples < 1 || every < 0 {
		return errors.New("-samples must be at least 1, -every not below 0")
	}
	inv, err := inventory.Load(file)
	if err != nil {
		return err
	}
	if inv.Platform.Size != "small" {
		return fmt.Errorf("%s: platform.size is %q; there is a promise for small only", file, inv.Platform.Size)
	}
	components, err := embedded.Components()
	if err != nil {
		return err
	}
	parts := partsOf(components)
	clusters := map[inventory.ClusterName]*cluster{}
	readers := map[inventory.ClusterName]reader{}
	for _, name := range inv.ClusterNames() {
		config, err := clientcmd.BuildConfigFromFlags("", plan.KubeconfigPath(inv.SiteDir(), name))
		if err != nil {
			return err
		}
		config.Timeout = 30 * time.Second
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		readers[name] = reader{client}
		if clusters[name], err = readers[name].cluster(ctx, parts); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for i := range samples {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(every):
			}
		}
		for name, c := range clusters {
			if err := readers[name].sample(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	kept := true
	for _, name := range inv.ClusterNames() {
		if err := table(os.Stdout, name, clusters[name]); err != nil {
			return err
		}
		for _, p := range promises(name) {
			line, ok := p.judge(clusters[name])
			fmt.Println(line)
			kept = kept && ok
		}
	}
	if !kept {
		return errMissed
	}
	return nil
}
