"""A server that speaks what kfp.Client asks of Kubeflow Pipelines' REST interface, v2beta1.

It keeps what is uploaded, and lets each run go through the states that the test gave it.
"""

import contextlib
import email
import email.policy
import http.server
import json
import threading
import urllib.parse

import yaml

_PREFIX = '/apis/v2beta1'


class Refused(Exception):
    """A request is refused, with a status and a sentence."""


class Server:
    """What was uploaded and started, and how a run goes.

    Attributes:
        url: Of the server.
        looks: For each look at a run in its order: the run's state, and its tasks' by key. The
            last one stays.
        multi_user: Whether it is for several users.
        instead: None, or a status, a content type and a content with which all is answered: what
            a gateway before the server does.
        tokens: What all requests together had as Authorization.
        pipelines: Ids to pairs of the namespace, '' for all, and the name.
        versions: Ids to pairs of the pipeline's id and the version's name.
        runs: What was asked for, in order.
        files: Contents of all files that were uploaded.
    """

    def __init__(self, looks):
        self.url = ''
        self.looks = list(looks)
        self.multi_user = False
        self.instead = None
        self.tokens = set()
        self.pipelines = {}
        self.versions = {}
        self.runs = []
        self.files = []

    def get(self, path, query):
        wanted = json.loads(query['filter'])['predicates'][0] if 'filter' in query else {}
        match path.split('/')[1:]:
            case ['healthz']:
                return {'multi_user': self.multi_user}
            case ['pipelines']:
                return {
                    'pipelines': [
                        {'pipeline_id': key, 'display_name': name}
                        for key, (namespace, name) in self.pipelines.items()
                        if (namespace, name) == (_namespace(query), wanted['stringValue'])
                    ]
                }
            case ['pipelines', pipeline, 'versions']:
                return {
                    'pipeline_versions': [
                        {'pipeline_id': of, 'pipeline_version_id': key, 'display_name': name}
                        for key, (of, name) in self.versions.items()
                        if of == pipeline and name == wanted['stringValue']
                    ]
                }
            case ['experiments']:
                return {'experiments': []}
            case ['runs', run]:
                state, tasks = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
                return {
                    'run_id': run,
                    'state': state,
                    'run_details': {'task_details': [_task(*each) for each in tasks.items()]},
                }
        return None

    def post(self, path, query, body):
        match path.split('/')[1:]:
            case ['pipelines', 'upload']:
                named = (_namespace(query), query['name'])
                if named in self.pipelines.values():
                    raise Refused(409, f'there is a pipeline {query["name"]}')
                self.files.append(body)
                self.pipelines[f'pipeline-{len(self.pipelines)}'] = named
                return {'pipeline_id': f'pipeline-{len(self.pipelines) - 1}'}
            case ['pipelines', 'upload_version']:
                self.files.append(body)
                key = f'version-{len(self.versions)}'
                self.versions[key] = (query['pipelineid'], query['name'])
                return {'pipeline_version_id': key}
            case ['experiments']:
                return {'experiment_id': 'experiment', 'display_name': body['display_name']}
            case ['runs']:
                self.runs.append(body)
                return {'run_id': f'run-{len(self.runs) - 1}'}
        return None


def _namespace(query):
    return query.get('namespace', '')


def _task(name, state):
    times = {'start_time': '2026-01-01T00:00:00Z', 'end_time': '2026-01-01T00:01:05Z'}
    return {'display_name': name, 'state': state, **times}


@contextlib.contextmanager
def kfp_server(*looks):
    """Runs a Server on a port of its own; see there for `looks`."""
    server = Server(looks)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(server.get)

        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            if self.headers['Content-Type'].startswith('multipart/'):
                head = f'Content-Type: {self.headers["Content-Type"]}\r\n\r\n'.encode()
                message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
                (part,) = message.iter_parts()
                content = list(yaml.safe_load_all(part.get_payload(decode=True)))
            else:
                content = json.loads(body)
            self._answer(lambda path, query: server.post(path, query, content))

        def _answer(self, answer):
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            server.tokens |= {*self.headers.get_all('Authorization', ())}
            kind = 'application/json'
            if server.instead:
                status, kind, content = server.instead
            else:
                try:
                    status, found = 200, answer(url.path.removeprefix(_PREFIX), query)
                except Refused as error:
                    status, found = error.args[0], {'error': error.args[1]}
                if found is None:
                    status, found = 404, {'error': f'nothing is at {url.path}'}
                content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header('Content-Type', kind)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as listener:
        server.url = f'http://127.0.0.1:{listener.server_port}'
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
