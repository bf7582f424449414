"""Elasticsearch's and OpenSearch's API over HTTP."""
