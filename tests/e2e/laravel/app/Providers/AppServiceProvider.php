<?php

namespace App\Providers;

use App\Console\Pause;
use App\Database\ImmediateConnector;
use App\Ledger;
use Illuminate\Queue\Events\Looping;
use Illuminate\Support\Facades\Cache;
use Illuminate\Support\Facades\Event;
use Illuminate\Support\ServiceProvider;

class AppServiceProvider extends ServiceProvider
{
    public function register(): void
    {
        $this->app->bind('db.connector.sqlite', ImmediateConnector::class);
    }

    public function boot(): void
    {
        // Each start of a process that asks the queue is counted, and when it was: an idle queue shall cost none.
        if (in_array($_SERVER['argv'][1] ?? '', ['queue:work', 'queue:listen'])) {
            $fields = explode(' ', substr(strrchr(file_get_contents('/proc/self/stat'), ')'), 2));
            Ledger::note('boot', $fields[19] / 100);
        }
        // From here on a daemon hears signals and queue:restart.
        Event::listen(Looping::class, function (): void {
            static $seen = false;
            $seen = $seen || Ledger::note('loop');
        });
        // A paused queue is left alone, as by the workers of Laravel 12 and later.
        Event::listen(Looping::class, fn (Looping $loop) => Cache::get(Pause::key($loop->connectionName, $loop->queue)) ? false : null);
    }
}
