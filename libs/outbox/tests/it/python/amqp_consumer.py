"""Reads messages of one queue with pika and prints each as one JSON object a line.

Usage: amqp_consumer.py URL QUEUE COUNT
"""

import json
import sys

import pika

url, queue, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
for method, properties, body in channel.consume(queue, inactivity_timeout=20):
    if method is None:
        sys.exit("no message came for 20 s")
    line = {
        "id": properties.message_id,
        "type": properties.type,
        "persistent": properties.delivery_mode == 2,
        "routing_key": method.routing_key,
        "headers": properties.headers,
        "body": json.loads(body),
    }
    print(json.dumps(line), flush=True)
    channel.basic_ack(method.delivery_tag)
    count -= 1
    if count == 0:
        break
