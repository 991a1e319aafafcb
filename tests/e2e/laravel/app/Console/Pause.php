<?php

namespace App\Console;

use Illuminate\Console\Command;
use Illuminate\Support\Facades\Cache;

/** What queue:pause and queue:resume of Laravel 12 and later leave in the cache; this release has neither. */
class Pause extends Command
{
    protected $signature = 'app:pause {queue} {--resume}';

    public function handle(): void
    {
        $key = self::key(config('queue.default'), $this->argument('queue'));
        $this->option('resume') ? Cache::forget($key) : Cache::forever($key, true);
    }

    public static function key(string $connection, string $queue): string
    {
        return "illuminate:queue:paused:{$connection}:{$queue}";
    }
}
