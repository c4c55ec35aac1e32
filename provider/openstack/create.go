package openstack

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// create makes something once, though its answer may be lost. After a failure that may have made it all the same, it is looked for by
// name and mark before it is made again.
func create[T any](ctx context.Context, what string, do func(context.Context) (*T, error), find func(context.Context) (*T, error)) (*T, error) {
	const attempts = 4
	for attempt := 1; ; attempt++ {
		made, err := do(ctx)
		if err == nil {
			return made, nil
		}
		if !uncertain(err) || ctx.Err() != nil || attempt == attempts {
			return nil, explain(ctx, what, err)
		}
		for look := range 3 {
			if err := sleep(ctx, waitFor(err, look)); err != nil {
				return nil, explain(ctx, what, err)
			}
			found, err := find(ctx)
			if err != nil {
				return nil, err // find explains itself
			}
			if found != nil {
				return found, nil
			}
		}
	}
}

// uncertain tells failures after which something may have been made.
func uncertain(err error) bool {
	return errors.Is(err, errLost) || slices.Contains([]int{
		http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}, code(err))
}

func waitFor(err error, look int) time.Duration {
	if refusal, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok && look == 0 {
		if d, ok := retryAfter(refusal.ResponseHeader, time.Now()); ok {
			return d
		}
	}
	return firstWait << look
}

// gone makes a deletion of something that is not there a success.
func gone(ctx context.Context, what string, err error) error {
	if notFound(err) {
		return nil
	}
	return explain(ctx, what, err)
}

// first finds what a request made whose answer was lost. Of several any one is taken; the others go when the run
// ends (duplicates.go).
func first[T any](ctx context.Context, kind string, p pagination.Pager, extract func(pagination.Page) ([]T, error)) (*T, error) {
	var out []T
	if err := list(ctx, kind, p, extract, &out); err != nil || len(out) == 0 {
		return nil, err
	}
	return &out[0], nil
}
