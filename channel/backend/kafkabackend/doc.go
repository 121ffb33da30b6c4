// Package kafkabackend keeps logs on Kafka.
package kafkabackend
