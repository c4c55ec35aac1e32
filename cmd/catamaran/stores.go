package main

import (
	"context"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// stores reads what the service cluster keeps, through one of its nodes.
type stores struct {
	*query.Stores
	bucket *store.S3
}

// reading calls f with the site and what its service cluster keeps.
func (g *global) reading(ctx context.Context, f func(*bootstrap.Site, *stores) error) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.Close()
	from, err := openStores(ctx, s)
	if err != nil {
		return err
	}
	return f(s, from)
}

// openStores prepares to read the service cluster of a site.
func openStores(ctx context.Context, s *bootstrap.Site) (*stores, error) {
	if s.Inventory.Clusters.Service == nil {
		return nil, fmt.Errorf("%s has no service cluster: evidence is read there", s.Inventory.Path)
	}
	if !s.Inventory.Platform.On() {
		return nil, fmt.Errorf("platform.enabled is false in %s: there is no evidence to read", s.Inventory.Path)
	}
	client, hosts, err := reached(ctx, s, inventory.Service)
	if err != nil {
		return nil, err
	}
	return storesThrough(ctx, s, client, hosts[0])
}

func storesThrough(ctx context.Context, s *bootstrap.Site, client kubernetes.Interface, way *remote.Host) (*stores, error) {
	ca, err := s.ServiceCA()
	if err != nil {
		return nil, err
	}
	keys, bucket := query.Keys{ServiceCA: ca}, query.Bucket{}
	if own := s.Inventory.Platform.ObjectStorage; own != nil {
		if keys.ReaderAccess, keys.ReaderSecret, err = accessKey(own.Credentials.Evidence, s.Inventory.Dir); err != nil {
			return nil, fmt.Errorf("platform.objectStorage.credentials.evidence: %w", err)
		}
		bucket = query.Bucket{Endpoint: own.Endpoint, Region: own.Region, Name: own.Buckets.Evidence}
		if own.CAFile != "" {
			if bucket.CA, err = os.ReadFile(own.CAFile); err != nil {
				return nil, fmt.Errorf("platform.objectStorage.caFile: %w", err)
			}
		}
	} else {
		reader, err := client.CoreV1().Secrets("versitygw").Get(ctx, "versitygw-reader", metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("the key that reads the evidence: %w; is the platform installed?", err)
		}
		keys.ReaderAccess, keys.ReaderSecret = string(reader.Data["access"]), string(reader.Data["secret"])
	}
	q, err := query.New(way.Dial, client, keys, s.Operator)
	if err != nil {
		return nil, err
	}
	evidence, err := q.Evidence(bucket)
	return &stores{Stores: q, bucket: evidence}, err
}
