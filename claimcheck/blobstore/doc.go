// Package blobstore keeps payloads in what gocloud.dev/blob knows: a folder,
// memory, S3 and whatever speaks its protocol, and, with the build tags "gcs" and
// "azure", Google Cloud Storage and Azure Blob Storage.
//
//	claimcheck.Store -- Put, Open, Delete, List --> store --> blob.Bucket --> folder | memory | S3 | GCS | Azure
//	                                                  |
//	                                                  '--> what blob.Bucket does not tell: uploads
//	                                                       that nobody ended, why a folder cannot be listed
//
// Goroutines: one for each part on its way to S3, which ends before Put does. The S3
// client has two per connection, which end with Close.
package blobstore
