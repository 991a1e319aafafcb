<?php

// What PHP, phpdotenv and the framework make of files, one JSON line per question:
// {"kind": "dotenv" or "php", "content": base64, "environment": {...}} -> {"ok": ...} or {"error": ...}

require_once 'Illuminate/autoload.php';

use Dotenv\Dotenv;
use Dotenv\Loader\Loader;
use Dotenv\Parser\Parser;
use Dotenv\Repository\Adapter\ArrayAdapter;
use Dotenv\Repository\RepositoryBuilder;
use Dotenv\Store\StringStore;

function dotenv_variables(string $content, array $environment): object
{
    $adapter = ArrayAdapter::create()->get();
    foreach ($environment as $name => $value) {
        $adapter->write($name, $value);
    }
    $repository = RepositoryBuilder::createWithNoAdapters()->addAdapter($adapter)->immutable()->make();
    $loaded = (new Dotenv(new StringStore($content), new Parser, new Loader, $repository))->load();
    $found = [];
    foreach (array_keys($loaded + $environment) as $name) {
        foreach ([$adapter->read($name)] as $value) {
            if ($value->isDefined()) {
                $found[$name] = $value->get();
            }
        }
    }

    return (object) $found;
}

/** Arrays as lists of pairs, so that keys keep their type. */
function paired(mixed $value): mixed
{
    if (! is_array($value)) {
        return $value;
    }

    return ['array' => array_map(fn ($key, $each) => [$key, paired($each)], array_keys($value), $value)];
}

$app = new Illuminate\Foundation\Application('/srv/shop');
while (($line = fgets(STDIN)) !== false) {
    $asked = json_decode($line, true);
    $content = base64_decode($asked['content']);
    try {
        $answer = ['ok' => $asked['kind'] === 'dotenv'
            ? dotenv_variables($content, $asked['environment'])
            : paired(eval(preg_replace('/^<\?php/', '', $content)))];
    } catch (Throwable $error) {
        $answer = ['error' => get_class($error)];
    }
    echo json_encode($answer, JSON_PRESERVE_ZERO_FRACTION | JSON_PARTIAL_OUTPUT_ON_ERROR), "\n";
}
