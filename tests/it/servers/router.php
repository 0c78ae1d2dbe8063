<?php
// What PHP makes of a request, as the tests of tests/it/servers ask it: lines `read NAME VALUE`, with the route that an
// application would take and the paths that it can ask for; at /fields the fields.
header('Content-Type: text/plain');
if ($_SERVER['REQUEST_URI'] === '/fields') {
    foreach ($_SERVER as $name => $value) {
        if (is_string($value)) {
            echo "$name=$value\n";
        }
    }
    if (function_exists('getallheaders')) {
        foreach (getallheaders() as $name => $value) {
            echo "$name: $value\n";
        }
    }
    return true;
}
$uri = $_SERVER['REQUEST_URI'];
$path = parse_url($uri, PHP_URL_PATH);
$before_query = strtok($uri, '?');
$paths = [
    'parse_url' => $path,
    'rawurldecode' => is_string($path) ? rawurldecode($path) : null,
    'urldecode' => is_string($path) ? urldecode($path) : null,
    'before_query' => is_string($before_query) ? rawurldecode($before_query) : null,
    'script_name' => $_SERVER['SCRIPT_NAME'] ?? null,
    'path_info' => $_SERVER['PATH_INFO'] ?? null,
    'php_self' => $_SERVER['PHP_SELF'] ?? null,
];
$is_endpoint = preg_match('{^/ds-api/user-token(/|\z)}', $paths['rawurldecode'] ?? '') === 1;
echo 'read route ', $is_endpoint ? 'endpoint' : 'other', "\n";
foreach ($paths as $name => $value) {
    if (is_string($value)) {
        echo "read $name $value\n";
    }
}
return true;
