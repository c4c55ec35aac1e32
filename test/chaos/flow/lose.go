package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Lose makes about the second half of the last writer's lines get lost for good, so that it can be seen that Check notices:
// its node's agent is frozen, the pod removed with its log once it has printed everything, and the agent killed before it can
// read on in the file that it holds open.
func (f *Flow) Lose(ctx context.Context) (err error) {
	w := f.writers[len(f.writers)-1]
	p := agent(w.node)
	if err := pause(ctx, time.Until(f.begun.Add(f.opt.Duration/2))); err != nil {
		return err
	}
	if err := f.site.signal(ctx, p, "STOP"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mending)
			defer cancel()
			err = errors.Join(err, f.site.signal(ctx, p, "CONT"))
		}
	}()
	f.opt.Log("%s: the log agent of %s is frozen", time.Since(f.begun).Round(time.Second), w.node)
	if err := f.finish(ctx); err != nil {
		return err
	}
	now := int64(0)
	if err := f.workload().CoreV1().Pods(f.namespace).Delete(ctx, w.name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, time.Second, mending, true, func(ctx context.Context) (bool, error) {
		left, err := f.site.root(ctx, w.node, fmt.Sprintf("ls /var/log/pods | grep %s || true", f.namespace))
		return left == "", err
	})
	if err != nil {
		return fmt.Errorf("the log of %s/%s is still on %s: %w", f.namespace, w.name, w.node, err)
	}
	f.opt.Log("%s: the log of %s is gone, its agent dies", time.Since(f.begun).Round(time.Second), w.name)
	d := deed{Fault: KillAgent(w.node), from: time.Now()}
	if err := d.do(ctx, f.site); err != nil {
		return err
	}
	d.to = time.Now()
	f.deeds = append(f.deeds, d)
	return nil
}
