"""Reads records of one topic with kafka-python and prints each as one JSON object a line.

Usage: kafka_consumer.py BOOTSTRAP TOPIC COUNT
"""

import json
import sys

from kafka import KafkaConsumer, TopicPartition

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    consumer_timeout_ms=20_000,
)
partitions = consumer.partitions_for_topic(topic)
consumer.assign([TopicPartition(topic, partition) for partition in partitions])
for record in consumer:
    line = {
        "partition": record.partition,
        "key": record.key.decode() if record.key else None,
        "headers": {name: value.decode() for name, value in record.headers},
        "body": json.loads(record.value),
    }
    print(json.dumps(line), flush=True)
    count -= 1
    if count == 0:
        break
sys.exit(f"{count} records are missing" if count else 0)
