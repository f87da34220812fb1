// The S3 server of the tests: versitygw's gateway over a folder, and nothing else of it.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	address := flag.String("address", "127.0.0.1:7070", "where it listens")
	folder := flag.String("folder", "", "where it keeps all: what lies in buckets/ is a bucket")
	region := flag.String("region", "us-east-1", "its region")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	whole, err := filepath.Abs(*folder)
	if err != nil {
		log.Fatal(err)
	}
	buckets, beside := filepath.Join(whole, "buckets"), filepath.Join(whole, "known")
	for _, path := range []string{buckets, beside} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			log.Fatal(err)
		}
	}
	// What it knows of objects: not every file system can hold it with their files.
	known, err := meta.NewSideCar(beside)
	if err != nil {
		log.Fatal(err)
	}
	backend, err := posix.New(buckets, known, posix.PosixOpts{SideCarDir: beside})
	if err != nil {
		log.Fatal(err)
	}
	err = embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: os.Getenv("ROOT_ACCESS_KEY"),
		RootUserSecret: os.Getenv("ROOT_SECRET_KEY"),
		Region:         *region,
		Ports:          []string{*address},
		MaxConnections: 256,
		MaxRequests:    128,
		// What S3 allows.
		MultipartMaxParts: 10000,
		Quiet:             true,
	})
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}
