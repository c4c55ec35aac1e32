// Package buckets makes the buckets of an S3 what a file says: the object store's part of an installation.
package buckets

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
)

// File is the configuration file; unknown keys are refused.
type File struct {
	// Endpoint is https://HOST[:PORT].
	Endpoint string `yaml:"endpoint"`
	Region   string `yaml:"region"`
	// CAFile verifies the endpoint.
	CAFile string `yaml:"caFile"`
	// CertFile and KeyFile are shown to an endpoint that asks for a client certificate; both or none.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// AccessFile and SecretFile hold the keys of one who may make buckets.
	AccessFile string   `yaml:"accessFile"`
	SecretFile string   `yaml:"secretFile"`
	Buckets    []Bucket `yaml:"buckets"`
}

// Bucket is one bucket.
type Bucket struct {
	Name string `yaml:"name"`
	// ObjectLock can only be set when a bucket is made; it implies versioning.
	ObjectLock       bool       `yaml:"objectLock"`
	DefaultRetention *Retention `yaml:"defaultRetention"`
	// Versioning is switched on; it is never switched off.
	Versioning bool `yaml:"versioning"`
	// Policy is a bucket policy as JSON; empty leaves what is there.
	Policy string `yaml:"policy"`
}

// Retention is what objects get that come without lock headers.
type Retention struct {
	Mode string `yaml:"mode"`
	Days uint   `yaml:"days"`
}

// Read reads and checks a file.
func Read(path string) (File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	f := File{Region: "us-east-1"}
	if err := config.Strict(b, &f); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := f.check(); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func (f File) check() error {
	var errs []error
	if len(f.Buckets) == 0 {
		errs = append(errs, errors.New("buckets: name at least one"))
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		errs = append(errs, errors.New("certFile and keyFile: give both or none"))
	}
	for _, b := range f.Buckets {
		switch r := b.DefaultRetention; {
		case b.Name == "":
			errs = append(errs, errors.New("a bucket has no name"))
		case r != nil && !b.ObjectLock:
			errs = append(errs, fmt.Errorf("bucket %s: defaultRetention needs objectLock: true", b.Name))
		case r != nil && (r.Days == 0 || r.Mode != "COMPLIANCE" && r.Mode != "GOVERNANCE"):
			errs = append(errs, fmt.Errorf("bucket %s: defaultRetention: expected mode COMPLIANCE or GOVERNANCE and days of 1 or more", b.Name))
		case b.Policy != "" && !json.Valid([]byte(b.Policy)):
			errs = append(errs, fmt.Errorf("bucket %s: policy is not JSON", b.Name))
		}
	}
	return errors.Join(errs...)
}

// retryPause is the time between two tries while the endpoint does not answer.
const retryPause = time.Second

// Ensure makes all buckets so, and waits for the endpoint until ctx ends. What is there is kept: no bucket is removed, no
// lock shortened, no versioning switched off.
func Ensure(ctx context.Context, f File, log *slog.Logger) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	for _, b := range f.Buckets {
		for {
			err := ensure(ctx, client, f.Region, b, log)
			if err == nil {
				break
			}
			err = fmt.Errorf("bucket %s at %s: %w", b.Name, f.Endpoint, err)
			if !passing(err) || ctx.Err() != nil {
				return err
			}
			log.Info("waiting for the object store", "error", err.Error())
			select {
			case <-ctx.Done():
				return err
			case <-time.After(retryPause):
			}
		}
	}
	return nil
}

func (f File) client() (*minio.Client, error) {
	pem, err := os.ReadFile(f.CAFile)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", f.CAFile)
	}
	if f.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: cfg}
	return store.Client(f.Endpoint, f.Region, store.Files(f.AccessFile, f.SecretFile), dialer.DialContext)
}

// passing says that an error may be another one later: the endpoint did not answer, or not for now. A wrong certificate
// or key is for good.
func passing(err error) bool {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode != 0 {
		return answer.StatusCode >= 500 || answer.StatusCode == 429
	}
	var network *net.OpError
	var verify *tls.CertificateVerificationError
	return errors.As(err, &network) && !errors.As(err, &verify) || errors.Is(err, context.DeadlineExceeded)
}

func ensure(ctx context.Context, c *minio.Client, region string, b Bucket, log *slog.Logger) error {
	there, err := c.BucketExists(ctx, b.Name)
	if err != nil {
		return err
	}
	if !there {
		if err := c.MakeBucket(ctx, b.Name, minio.MakeBucketOptions{Region: region, ObjectLocking: b.ObjectLock}); err != nil {
			return fmt.Errorf("make it: %w", err)
		}
		log.Info("bucket made", "bucket", b.Name, "objectLock", b.ObjectLock)
	}
	if b.ObjectLock {
		if err := lock(ctx, c, b, log); err != nil {
			return err
		}
	}
	if b.Versioning || b.ObjectLock {
		if err := versioning(ctx, c, b, log); err != nil {
			return err
		}
	}
	return policy(ctx, c, b, log)
}

// lock checks that the bucket has object lock and sets its default retention: the stronger mode and the longer time of what
// it has and what is asked for.
func lock(ctx context.Context, c *minio.Client, b Bucket, log *slog.Logger) error {
	enabled, mode, validity, unit, err := c.GetObjectLockConfig(ctx, b.Name)
	if err != nil || enabled != "Enabled" {
		var answer minio.ErrorResponse
		if err != nil && (!errors.As(err, &answer) || answer.Code != "ObjectLockConfigurationNotFoundError") {
			return fmt.Errorf("read its lock configuration: %w", err)
		}
		return errors.New("it was made without object lock, which cannot be added: move it away or name another")
	}
	want := b.DefaultRetention
	if want == nil {
		return nil
	}
	days := uint(0)
	if validity != nil && unit != nil {
		if days = *validity; *unit == minio.Years {
			days *= 365
		}
	}
	set, period := minio.RetentionMode(want.Mode), minio.Days
	if mode != nil && *mode == minio.Compliance {
		set = minio.Compliance
	}
	longer := max(days, want.Days)
	if set.String() != want.Mode || longer != want.Days {
		log.Warn("the bucket's default retention is stronger than asked for; it is left so", "bucket", b.Name, "mode", set, "days", longer)
	}
	if mode != nil && *mode == set && days == longer {
		return nil
	}
	if err := c.SetObjectLockConfig(ctx, b.Name, &set, &longer, &period); err != nil {
		return fmt.Errorf("set its default retention: %w", err)
	}
	log.Info("default retention set", "bucket", b.Name, "mode", set, "days", longer)
	return nil
}

func versioning(ctx context.Context, c *minio.Client, b Bucket, log *slog.Logger) error {
	v, err := c.GetBucketVersioning(ctx, b.Name)
	if err != nil {
		return fmt.Errorf("read its versioning: %w", err)
	}
	if v.Enabled() {
		return nil
	}
	if err := c.EnableVersioning(ctx, b.Name); err != nil {
		return fmt.Errorf("switch versioning on: %w", err)
	}
	log.Info("versioning switched on", "bucket", b.Name)
	return nil
}

func policy(ctx context.Context, c *minio.Client, b Bucket, log *slog.Logger) error {
	if b.Policy == "" {
		return nil
	}
	have, err := c.GetBucketPolicy(ctx, b.Name)
	if err != nil {
		return fmt.Errorf("read its policy: %w", err)
	}
	if sameJSON(have, b.Policy) {
		return nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(b.Policy)); err != nil {
		return err
	}
	if err := c.SetBucketPolicy(ctx, b.Name, compact.String()); err != nil {
		return fmt.Errorf("set its policy: %w", err)
	}
	log.Info("policy set", "bucket", b.Name)
	return nil
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
